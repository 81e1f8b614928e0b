{{- define "paddleinfer.name" -}}
{{- if contains "paddleinfer" .Release.Name }}{{ .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}{{ printf "%s-paddleinfer" .Release.Name | trunc 63 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "paddleinfer.selector" -}}
app.kubernetes.io/name: paddleinfer
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "paddleinfer.labels" -}}
{{ include "paddleinfer.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- define "paddleinfer.probe" -}}
httpGet: {path: {{ .path }}, port: http{{ if .root.Values.tls.secretName }}, scheme: HTTPS{{ end }}}
{{- end }}
