{{/* Name in labels. */}}
{{- define "lora-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of the objects. 45 characters leave room for the longest suffix, and for that of a pod. */}}
{{- define "lora-operator.fullname" -}}
{{- $name := include "lora-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 45 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 45 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 45 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* Labels by which pods are selected. They never change: the selector of a Deployment cannot. */}}
{{- define "lora-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "lora-operator.name" . | toYaml }}
app.kubernetes.io/component: controller
{{- end }}

{{/* Labels of an object: pass a list of the root, the object's own labels, and its component. Ours win. */}}
{{- define "lora-operator.labels" -}}
{{- $root := first . }}
{{- $own := include "lora-operator.selectorLabels" $root | fromYaml }}
{{- if gt (len .) 2 }}{{ $_ := set $own "app.kubernetes.io/component" (index . 2) }}{{ end }}
{{- $_ := set $own "app.kubernetes.io/instance" $root.Release.Name }}
{{- $_ := set $own "app.kubernetes.io/version" $root.Chart.AppVersion }}
{{- $_ := set $own "app.kubernetes.io/managed-by" $root.Release.Service }}
{{- $_ := set $own "helm.sh/chart" (printf "%s-%s" $root.Chart.Name $root.Chart.Version | replace "+" "_" | trunc 63) }}
{{- $added := dict }}
{{- if gt (len .) 1 }}{{ $added = index . 1 }}{{ end }}
{{- toYaml (merge $own $added $root.Values.commonLabels) }}
{{- end }}

{{/* Reference of an image: pass a list of the root and the image's values. */}}
{{- define "lora-operator.image" -}}
{{- $root := first . }}
{{- $image := index . 1 }}
{{- with $image.registry }}{{ trimSuffix "/" . }}/{{ end }}
{{- $image.repository }}
{{- if $image.digest }}@{{ $image.digest }}{{ else }}:{{ default $root.Chart.AppVersion $image.tag }}{{ end }}
{{- end }}

{{- define "lora-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "lora-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/* Name of the Service of the webhook; the operator's own default is that of a release called lora-operator. */}}
{{- define "lora-operator.webhookService" -}}
{{ include "lora-operator.fullname" . }}-webhook
{{- end }}

{{/* "true" where cert-manager makes the webhook's certificate. */}}
{{- define "lora-operator.certManager" -}}
{{- if and .Values.webhook.enabled (eq .Values.webhook.certificates.source "certManager") }}true{{ end }}
{{- end }}

{{/* The policy file; empty where nothing is restricted. */}}
{{- define "lora-operator.config" -}}
{{- with .Values.config }}{{ toYaml . }}{{ end }}
{{- end }}

{{/* Binding that gives an account a role: pass a dictionary with root, kind, name and, for a Role, namespace. With
account and component it is not the operator's. */}}
{{- define "lora-operator.binding" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}Binding
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ toYaml . }}
  {{- end }}
  labels:
    {{- include "lora-operator.labels" (list .root dict (.component | default "controller")) | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .kind }}
  name: {{ .name }}
subjects:
  - kind: ServiceAccount
    name: {{ .account | default (include "lora-operator.serviceAccountName" .root) }}
    namespace: {{ toYaml .root.Release.Namespace }}
{{- end }}

{{/* Role with rules from a generated file: pass a dictionary as above, and file; labels are optional. */}}
{{- define "lora-operator.role" -}}
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .kind }}
metadata:
  name: {{ .name }}
  {{- with .namespace }}
  namespace: {{ toYaml . }}
  {{- end }}
  labels:
    {{- include "lora-operator.labels" (list .root (.labels | default dict) (.component | default "controller")) | nindent 4 }}
rules:
  {{- .root.Files.Get .file | fromYamlArray | toYaml | nindent 2 }}
{{- end }}
