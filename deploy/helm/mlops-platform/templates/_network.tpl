{{/* A policy of what goes out: a dict of root and way, a dict of name, from (roles), to (peers and ports), component. */}}
{{- define "mlops.egress" -}}
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: {{ .way.name }}
  labels: {{- include "mlops.labels" .root | nindent 4 }}
spec:
  podSelector:
    matchExpressions:
      - { key: mlops/role, operator: In, values: {{ toJson .way.from }} }
    {{- with .way.component }}
    matchLabels: { app.kubernetes.io/component: {{ . }} }
    {{- end }}
  policyTypes: [Egress]
  egress:
    {{- range .way.to }}
    - to: {{- toYaml .peers | nindent 8 }}
      ports:
        {{- range .ports }}
        - { protocol: TCP, port: {{ . }} }
        {{- end }}
    {{- end }}
{{- end }}
