{{/* Namespaces in which monitors look for pods. */}}
{{- define "lora-operator.monitoredNamespaces" -}}
{{- if .Values.namespaces -}}
matchNames:
  {{- toYaml .Values.namespaces | nindent 2 }}
{{- else -}}
any: true
{{- end }}
{{- end }}
