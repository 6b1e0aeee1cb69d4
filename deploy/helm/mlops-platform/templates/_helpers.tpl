{{/* Labels of every object of this chart. */}}
{{- define "mlops.labels" -}}
app.kubernetes.io/part-of: mlops
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/instance: {{ .Release.Name }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{/* An image by digest: a dict of repository and digest. */}}
{{- define "mlops.image" -}}
{{ .repository }}@{{ .digest }}
{{- end }}

{{/* The security context of a pod, and of a container, as Pod Security "restricted" wants them. */}}
{{- define "mlops.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
seccompProfile: { type: RuntimeDefault }
{{- end }}
{{- define "mlops.containerSecurity" -}}
runAsNonRoot: true
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{/* What a pod of ours writes to, what it verifies PostgreSQL by, and the instance that Dagster's chart wrote. */}}
{{- define "mlops.volumes" -}}
- name: tmp
  emptyDir: { sizeLimit: 2Gi }
- name: postgres-ca
  configMap: { name: mlops-postgres-ca, optional: true }
{{- end }}
{{- define "mlops.mounts" -}}
- name: tmp
  mountPath: /tmp
- name: postgres-ca
  mountPath: /etc/mlops/ca
  readOnly: true
{{- end }}
{{- define "mlops.instanceVolumes" -}}
- name: home
  emptyDir: { sizeLimit: 1Gi }
- name: instance
  configMap: { name: {{ .Values.dagster.release }}-instance }
{{- end }}
{{- define "mlops.instanceMounts" -}}
- name: home
  mountPath: {{ .Values.dagster.home }}
- name: instance
  mountPath: {{ .Values.dagster.home }}/dagster.yaml
  subPath: dagster.yaml
  readOnly: true
{{- end }}

{{/* The environment of a pod that opens the instance. */}}
{{- define "mlops.instanceEnvironment" -}}
env:
  - name: DAGSTER_HOME
    value: {{ .Values.dagster.home }}
  - name: DAGSTER_PG_PASSWORD
    valueFrom:
      secretKeyRef: { name: {{ .Values.dagster.passwordSecret }}, key: postgresql-password }
envFrom:
  - configMapRef: { name: mlops-assets-settings }
  - secretRef: { name: mlops-assets }
{{- end }}

{{/* Peers of a policy by address. */}}
{{- define "mlops.addresses" -}}
{{- $except := .except | default list -}}
{{- range .cidrs }}
- ipBlock:
    cidr: {{ . }}
    {{- with $except }}
    except: {{ toJson . }}
    {{- end }}
{{- end }}
{{- end }}
