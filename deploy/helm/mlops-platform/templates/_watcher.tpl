{{/* A deployment of one pod that looks at the instance: a dict of root, name, role, args, resources, port and secret. */}}
{{- define "mlops.watcher" -}}
{{- $ := .root -}}
replicas: 1
strategy: { type: Recreate }
selector:
  matchLabels: { app.kubernetes.io/name: {{ .name }}, app.kubernetes.io/instance: {{ $.Release.Name }} }
template:
  metadata:
    labels:
      app.kubernetes.io/name: {{ .name }}
      app.kubernetes.io/instance: {{ $.Release.Name }}
      mlops/role: {{ .role }}
      {{- with $.Values.identityLabels }}{{ toYaml . | nindent 6 }}{{ end }}
  spec:
    serviceAccountName: {{ .name }}
    automountServiceAccountToken: false
    enableServiceLinks: false
    priorityClassName: mlops-platform
    securityContext: {{- include "mlops.podSecurity" $ | nindent 6 }}
    {{- with $.Values.imagePullSecrets }}
    imagePullSecrets: {{- toYaml . | nindent 6 }}
    {{- end }}
    containers:
      - name: {{ .role }}
        image: {{ include "mlops.image" $.Values.image }}
        imagePullPolicy: {{ $.Values.image.pullPolicy }}
        args: {{- toYaml .args | nindent 10 }}
        {{- include "mlops.instanceEnvironment" $ | nindent 8 }}
          {{- with .secret }}
          - secretRef: { name: {{ . }}, optional: true }
          {{- end }}
        {{- with .port }}
        ports: [{ name: metrics, containerPort: {{ . }} }]
        startupProbe:
          httpGet: { path: /-/healthy, port: metrics }
          periodSeconds: 5
          failureThreshold: 24
        readinessProbe:
          httpGet: { path: /-/healthy, port: metrics }
          periodSeconds: 30
          timeoutSeconds: 5
        livenessProbe:
          httpGet: { path: /-/healthy, port: metrics }
          periodSeconds: 60
          timeoutSeconds: 10
          failureThreshold: 3
        {{- end }}
        securityContext: {{- include "mlops.containerSecurity" $ | nindent 10 }}
        resources: {{- toYaml .resources | nindent 10 }}
        volumeMounts:
          {{- include "mlops.mounts" $ | nindent 10 }}
          {{- include "mlops.instanceMounts" $ | nindent 10 }}
    volumes:
      {{- include "mlops.volumes" $ | nindent 6 }}
      {{- include "mlops.instanceVolumes" $ | nindent 6 }}
{{- end }}
