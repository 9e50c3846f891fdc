{{- define "kvroute.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* Leaves room for the suffixes of what is named after it. */}}
{{- define "kvroute.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 50 | trimSuffix "-" }}
{{- else if contains (include "kvroute.name" .) .Release.Name }}
{{- .Release.Name | trunc 50 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "kvroute.name" .) | trunc 50 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "kvroute.selectorLabels" -}}
app.kubernetes.io/name: {{ include "kvroute.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "kvroute.labels" -}}
{{ include "kvroute.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "kvroute.headless" -}}
{{ include "kvroute.fullname" . }}-headless
{{- end }}

{{- define "kvroute.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "kvroute.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "kvroute.image" -}}
{{- with .Values.image }}
{{- if .digest }}{{ .repository }}@{{ .digest }}{{ else }}{{ .repository }}:{{ default $.Chart.AppVersion .tag }}{{ end }}
{{- end }}
{{- end }}

{{- define "kvroute.everywhere" -}}
{{- if has "*" .Values.kubernetes.namespaces }}true{{ end }}
{{- end }}

{{- /* The labels of engines' pods, as the preset has them. */}}
{{- define "kvroute.enginePods" -}}
{{- if .Values.networkPolicy.engines.podSelector }}
{{- toYaml .Values.networkPolicy.engines.podSelector }}
{{- else if eq .Values.kubernetes.preset "llm-d" -}}
matchLabels:
  llm-d.ai/inference-serving: "true"
{{- else -}}
matchExpressions:
  - key: model.aibrix.ai/name
    operator: Exists
{{- end }}
{{- end }}

{{- /* The ports of all ranks from the one of rank 0 on. */}}
{{- define "kvroute.rankPorts" -}}
- protocol: TCP
  port: {{ .from }}
  {{- if gt (int .ranks) 1 }}
  endPort: {{ sub (add (int .from) (int .ranks)) 1 }}
  {{- end }}
{{- end }}

{{- /* What cannot work is refused here; what the schema can say is there. */}}
{{- define "kvroute.check" -}}
{{- if and .Values.peers.enabled (or .Values.tls.secretName .Values.auth.secretName .Values.auth.adminSecretName) }}
{{- fail "peers speak plain HTTP without a token: with auth or tls set peers.enabled to false" }}
{{- end }}
{{- if .Values.snapshot.existingClaim }}
{{- if or (ne (int .Values.replicaCount) 1) .Values.autoscaling.enabled }}
{{- fail "snapshot.existingClaim is one folder, which replicas must not share: set replicaCount to 1 and autoscaling.enabled to false" }}
{{- end }}
{{- end }}
{{- with .Values.podDisruptionBudget }}
{{- if and .enabled (not (kindIs "invalid" .minAvailable)) }}
{{- if not (kindIs "invalid" .maxUnavailable) }}
{{- fail "podDisruptionBudget: set either minAvailable or maxUnavailable, and the other one to null" }}
{{- end }}
{{- $least := ternary $.Values.autoscaling.minReplicas $.Values.replicaCount $.Values.autoscaling.enabled }}
{{- if and (not (kindIs "string" .minAvailable)) (ge (int .minAvailable) (int $least)) }}
{{- fail (printf "podDisruptionBudget.minAvailable is %v of %v replicas: no node could ever be drained" .minAvailable $least) }}
{{- end }}
{{- end }}
{{- end }}
{{- if and .Values.autoscaling.enabled (gt (int .Values.autoscaling.minReplicas) (int .Values.autoscaling.maxReplicas)) }}
{{- fail "autoscaling.minReplicas is more than autoscaling.maxReplicas" }}
{{- end }}
{{- if eq (int .Values.port) (int .Values.adminPort) }}
{{- fail "port and adminPort are the same" }}
{{- end }}
{{- if and (include "kvroute.everywhere" .) (gt (len .Values.kubernetes.namespaces) 1) }}
{{- fail "kubernetes.namespaces has '*' and names: '*' is all of them" }}
{{- end }}
{{- with .Values.networkPolicy }}
{{- if and .enabled .enginePolicy.enabled (include "kvroute.everywhere" $) (not .enginePolicy.namespaces) }}
{{- fail "networkPolicy.enginePolicy.namespaces is needed: a policy holds in one namespace, and kubernetes.namespaces is ['*']" }}
{{- end }}
{{- with .engines }}
{{- $apart := sub (int .replayPort) (int .eventsPort) }}
{{- if and (lt $apart (int64 .ranks)) (lt (mul -1 $apart) (int64 .ranks)) }}
{{- fail (printf "networkPolicy.engines: eventsPort %v and replayPort %v are closer than %v ranks, each of which has the next port of both" .eventsPort .replayPort .ranks) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}
