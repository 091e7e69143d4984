{{- /* What the options of the service are set from; the file comes last. */ -}}
{{- define "eventstream.environment" -}}
- name: EVENTSTREAM_CONFIG
  value: /etc/eventstream/eventstream.toml
- name: EVENTSTREAM_DB
  valueFrom:
    secretKeyRef:
      name: {{ .Values.database.secretName }}
      key: {{ .Values.database.secretKey }}
{{- with .Values.archive }}
{{- if .secretName }}
- name: EVENTSTREAM_ARCHIVE_URL
  valueFrom:
    secretKeyRef:
      name: {{ .secretName }}
      key: {{ .secretKey }}
{{- end }}
{{- end }}
{{- if .Values.futoin.usersSecretName }}
- name: EVENTSTREAM_FUTOIN_USERS_FILE
  value: /etc/eventstream-futoin/users
{{- end }}
- name: EVENTSTREAM_GRPC
  value: 0.0.0.0:50051
- name: EVENTSTREAM_HTTP
  value: 0.0.0.0:8080
{{ include "eventstream.security.environment" . | trim }}
- name: EVENTSTREAM_LOG_FORMAT
  value: {{ .Values.logFormat }}
- name: EVENTSTREAM_SHUTDOWN_DEADLINE
  value: {{ printf "%ds" (int .Values.shutdownDeadlineSeconds) }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "eventstream.mounts" -}}
- name: config
  mountPath: /etc/eventstream
  readOnly: true
{{- with include "eventstream.security.mounts" . | trim }}
{{ . }}
{{- end }}
{{- if .Values.futoin.usersSecretName }}
- name: futoin-users
  mountPath: /etc/eventstream-futoin
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "eventstream.volumes" -}}
- name: config
  configMap:
    name: {{ include "eventstream.name" . }}
{{- with include "eventstream.security.volumes" . | trim }}
{{ . }}
{{- end }}
{{- with .Values.futoin }}
{{- if .usersSecretName }}
- name: futoin-users
  secret:
    secretName: {{ .usersSecretName }}
    defaultMode: 0440
    items:
      - key: {{ .usersSecretKey }}
        path: users
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
