{{/* The command of MLflow's server: uvicorn, because its security middleware exists under no other. */}}
{{- define "mlops.mlflowServer" -}}
- mlflow
- server
- --host
- 0.0.0.0
- --port
- "5000"
- --workers
- {{ .Values.mlflow.workers | quote }}
- --backend-store-uri
- {{ tpl .Values.mlflow.backend . }}
- --serve-artifacts
- --artifacts-destination
- {{ tpl .Values.mlflow.artifacts . }}
- --allowed-hosts
- {{ join "," .Values.mlflow.allowedHosts | quote }}
{{- end }}

{{/* A pod of MLflow: a dict of root, args, and whether it serves. */}}
{{- define "mlops.mlflowPod" -}}
{{- $ := .root -}}
serviceAccountName: mlops-mlflow
automountServiceAccountToken: false
enableServiceLinks: false
priorityClassName: mlops-platform
securityContext: {{- include "mlops.podSecurity" $ | nindent 2 }}
{{- with $.Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
containers:
  - name: mlflow
    image: {{ include "mlops.image" $.Values.mlflow.image }}
    imagePullPolicy: {{ $.Values.image.pullPolicy }}
    args: {{- toYaml .args | nindent 6 }}
    env:
      - { name: MLFLOW_DISABLE_TELEMETRY, value: "true" }
      - { name: DO_NOT_TRACK, value: "true" }
      - { name: MLFLOW_SERVER_ENABLE_JOB_EXECUTION, value: "false" }
      - { name: MLFLOW_ALLOW_PICKLE_DESERIALIZATION, value: "false" }
      - { name: PGSSLMODE, value: {{ $.Values.settings.PGSSLMODE | quote }} }
      - { name: PGSSLROOTCERT, value: {{ $.Values.settings.PGSSLROOTCERT | quote }} }
    envFrom:
      - secretRef: { name: {{ $.Values.mlflow.secret }} }
    {{- if .serves }}
    ports: [{ name: http, containerPort: 5000 }]
    startupProbe:
      httpGet: { path: /health, port: http, httpHeaders: [{ name: Host, value: mlflow }] }
      periodSeconds: 5
      timeoutSeconds: 5
      failureThreshold: 60
    readinessProbe:
      httpGet: { path: /health, port: http, httpHeaders: [{ name: Host, value: mlflow }] }
      periodSeconds: 15
      timeoutSeconds: 5
    livenessProbe:
      httpGet: { path: /health, port: http, httpHeaders: [{ name: Host, value: mlflow }] }
      periodSeconds: 30
      timeoutSeconds: 10
      failureThreshold: 4
    {{- end }}
    securityContext: {{- include "mlops.containerSecurity" $ | nindent 6 }}
    resources: {{- toYaml $.Values.mlflow.resources | nindent 6 }}
    volumeMounts: {{- include "mlops.mounts" $ | nindent 6 }}
volumes: {{- include "mlops.volumes" $ | nindent 2 }}
{{- end }}
