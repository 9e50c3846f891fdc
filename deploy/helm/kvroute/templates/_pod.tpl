{{- /* What the pods of the Deployment and of the test have in common. */}}
{{- define "kvroute.podIdentity" -}}
serviceAccountName: {{ include "kvroute.serviceAccountName" . }}
# For the API server, and only where it is asked.
automountServiceAccountToken: {{ .Values.kubernetes.enabled }}
enableServiceLinks: false
{{- with .Values.image.pullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext: {{- toYaml .Values.podSecurityContext | nindent 2 }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{- define "kvroute.container" -}}
image: {{ include "kvroute.image" . | quote }}
imagePullPolicy: {{ .Values.image.pullPolicy }}
securityContext: {{- toYaml .Values.securityContext | nindent 2 }}
{{- if or .Values.env .Values.hashSeed.secretName }}
env:
  {{- with .Values.hashSeed }}
  {{- if .secretName }}
  - name: KVROUTE_HASH_SEED
    valueFrom:
      secretKeyRef: {name: {{ .secretName }}, key: {{ .key }}}
  {{- end }}
  {{- end }}
  {{- with .Values.env }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}
volumeMounts:
  - {name: config, mountPath: /etc/kvroute/config, readOnly: true}
  # A peer's snapshot is received here.
  - {name: tmp, mountPath: /tmp}
  {{- if .Values.snapshot.enabled }}
  - {name: snapshot, mountPath: /var/lib/kvroute}
  {{- end }}
  {{- if .Values.auth.secretName }}
  - {name: tokens, mountPath: /etc/kvroute/tokens, readOnly: true}
  {{- end }}
  {{- if .Values.auth.adminSecretName }}
  - {name: admin-tokens, mountPath: /etc/kvroute/admin-tokens, readOnly: true}
  {{- end }}
  {{- if .Values.tls.secretName }}
  - {name: tls, mountPath: /etc/kvroute/tls, readOnly: true}
  {{- end }}
  {{- with .Values.extraVolumeMounts }}{{ toYaml . | nindent 2 }}{{ end }}
{{- end }}

{{- /* All but the snapshot's, of which the two differ. */}}
{{- define "kvroute.volumes" -}}
- name: config
  configMap: {name: {{ include "kvroute.fullname" . }}}
- name: tmp
  emptyDir: {sizeLimit: {{ .Values.snapshot.sizeLimit }}}
{{- with .Values.auth }}
{{- if .secretName }}
- name: tokens
  secret: {secretName: {{ .secretName }}, items: [{key: {{ .key }}, path: tokens}]}
{{- end }}
{{- if .adminSecretName }}
- name: admin-tokens
  secret: {secretName: {{ .adminSecretName }}, items: [{key: {{ .adminKey }}, path: tokens}]}
{{- end }}
{{- end }}
{{- if .Values.tls.secretName }}
- name: tls
  secret: {secretName: {{ .Values.tls.secretName }}}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
