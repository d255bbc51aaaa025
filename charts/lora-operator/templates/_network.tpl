{{/* Labels of the pods that the operator makes. */}}
{{- define "lora-operator.trainerLabels" -}}
app.kubernetes.io/managed-by: lora-operator
app.kubernetes.io/component: trainer
{{- end }}

{{/* The way to the cluster's DNS: its pods, and the cache that some clusters run on each node. */}}
{{- define "lora-operator.dnsEgress" -}}
- to:
    - namespaceSelector:
        matchLabels:
          kubernetes.io/metadata.name: kube-system
    - ipBlock:
        cidr: 169.254.20.10/32
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}
