{{- /*
Who may call, and over what: the files of users and certificates, where they
are mounted, and the options that name them. Whole directories are mounted,
because files mounted one by one are never renewed.
*/ -}}

{{- /* Fails unless it is said how callers are known and kept from being read. */ -}}
{{- define "eventstream.secured" -}}
{{- $lacking := list }}
{{- if not .Values.users.secretName }}{{ $lacking = append $lacking "users.secretName" }}{{ end }}
{{- if not .Values.tls.grpc.secretName }}{{ $lacking = append $lacking "tls.grpc.secretName" }}{{ end }}
{{- if not .Values.tls.http.secretName }}{{ $lacking = append $lacking "tls.http.secretName" }}{{ end }}
{{- if and $lacking (not .Values.insecure) }}
{{- fail (printf "the pod network would be served without protection: set %s, or insecure=true if something else protects it (deploy/README.md)" (join ", " $lacking)) }}
{{- end }}
{{- if and .Values.users.files (not .Values.users.secretName) }}
{{- fail "users.files: are of no use without users.secretName" }}
{{- end }}
{{- range $front := list "grpc" "http" }}
{{- $tls := index $.Values.tls $front }}
{{- if and (or $tls.clientCa.secretName $tls.clientCa.configMapName) (not $tls.secretName) }}
{{- fail (printf "tls.%s.clientCa: is of no use without tls.%s.secretName" $front $front) }}
{{- end }}
{{- end }}
{{- with .Values.metrics }}
{{- if and .serviceMonitor.enabled $.Values.users.secretName (not .open) (not .serviceMonitor.token.secretName) }}
{{- fail "metrics.serviceMonitor.token.secretName: with users Prometheus needs a token, or set metrics.open=true" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "eventstream.server-name" -}}
{{- .Values.tls.serverName | default (printf "%s.%s.svc" (include "eventstream.name" .) .Release.Namespace) }}
{{- end }}

{{- define "eventstream.security.environment" -}}
{{- if .Values.users.secretName }}
- name: EVENTSTREAM_AUTH_FILE
  value: /etc/eventstream-users/users.toml
{{- end }}
{{- range $front := list "grpc" "http" }}
{{- $tls := index $.Values.tls $front }}
{{- if $tls.secretName }}
- name: EVENTSTREAM_{{ upper $front }}_TLS_CERT
  value: /etc/eventstream-tls/{{ $front }}/tls.crt
- name: EVENTSTREAM_{{ upper $front }}_TLS_KEY
  value: /etc/eventstream-tls/{{ $front }}/tls.key
{{- if or $tls.clientCa.secretName $tls.clientCa.configMapName }}
- name: EVENTSTREAM_{{ upper $front }}_TLS_CLIENT_CA
  value: /etc/eventstream-tls/{{ $front }}/client-ca.crt
- name: EVENTSTREAM_{{ upper $front }}_TLS_CLIENT_AUTH
  value: {{ $tls.clientAuth | default "optional" }}
{{- end }}
{{- end }}
{{- end }}
- name: EVENTSTREAM_HTTP_METRICS_OPEN
  value: {{ .Values.metrics.open | quote }}
- name: EVENTSTREAM_INSECURE
  value: {{ .Values.insecure | quote }}
{{- end }}

{{- define "eventstream.security.mounts" -}}
{{- if .Values.users.secretName }}
- name: users
  mountPath: /etc/eventstream-users
  readOnly: true
{{- end }}
{{- range $front := list "grpc" "http" }}
{{- if (index $.Values.tls $front).secretName }}
- name: tls-{{ $front }}
  mountPath: /etc/eventstream-tls/{{ $front }}
  readOnly: true
{{- end }}
{{- end }}
{{- end }}

{{- define "eventstream.security.volumes" -}}
{{- if .Values.users.secretName }}
- name: users
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .Values.users.secretName }}
          items:
            - key: {{ .Values.users.secretKey }}
              path: users.toml
      {{- range .Values.users.files }}
      - {{ include "eventstream.file" (dict "place" . "path" .path) | nindent 8 | trim }}
      {{- end }}
{{- end }}
{{- range $front := list "grpc" "http" }}
{{- $tls := index $.Values.tls $front }}
{{- if $tls.secretName }}
- name: tls-{{ $front }}
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ $tls.secretName }}
          items:
            - key: tls.crt
              path: tls.crt
            - key: tls.key
              path: tls.key
      {{- if or $tls.clientCa.secretName $tls.clientCa.configMapName }}
      - {{ include "eventstream.file" (dict "place" $tls.clientCa "path" "client-ca.crt") | nindent 8 | trim }}
      {{- end }}
{{- end }}
{{- end }}
{{- end }}

{{- /* One key of a Secret or a ConfigMap, as a source of a projected volume. */ -}}
{{- define "eventstream.file" -}}
{{- if .place.secretName -}}
secret:
  name: {{ .place.secretName }}
{{- else -}}
configMap:
  name: {{ .place.configMapName }}
{{- end }}
  items:
    - key: {{ .place.key }}
      path: {{ .path }}
{{- end }}
