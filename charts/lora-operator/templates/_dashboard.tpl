{{- define "lora-operator.dashboardName" -}}
{{ include "lora-operator.fullname" . }}-dashboard
{{- end }}

{{/* Labels by which the dashboard's pods are selected. None of the operator's selectors takes them. */}}
{{- define "lora-operator.dashboardSelectorLabels" -}}
app.kubernetes.io/name: {{ include "lora-operator.name" . | toYaml }}
app.kubernetes.io/component: dashboard
{{- end }}

{{/* Labels of an object of the dashboard. */}}
{{- define "lora-operator.dashboardLabels" -}}
{{- include "lora-operator.labels" (list . dict "dashboard") }}
{{- end }}

{{/* Names of the page, for a route that needs some: pass a list of the root and the value that asks for them. */}}
{{- define "lora-operator.dashboardHosts" -}}
{{- $root := first . }}
{{- if not $root.Values.dashboard.hosts }}
{{- fail (printf "dashboard.hosts: %s needs the name of the page, such as lora.example.org" (index . 1)) }}
{{- end }}
{{- toYaml $root.Values.dashboard.hosts }}
{{- end }}
