{{/* Names, labels and what every pod has. Arguments of several: a list, the root context first. */}}

{{- define "tunegate.name" -}}
{{- .Release.Name | trunc 40 | trimSuffix "-" -}}
{{- end }}

{{- define "tunegate.labels" -}}
{{- $root := index . 0 -}}
app.kubernetes.io/name: tunegate
app.kubernetes.io/instance: {{ $root.Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
app.kubernetes.io/version: {{ $root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ $root.Release.Service }}
helm.sh/chart: {{ $root.Chart.Name }}-{{ $root.Chart.Version }}
{{- end }}

{{- define "tunegate.selector" -}}
app.kubernetes.io/name: tunegate
app.kubernetes.io/instance: {{ (index . 0).Release.Name }}
app.kubernetes.io/component: {{ index . 1 }}
{{- end }}

{{- define "tunegate.image" -}}
{{- $root := index . 0 -}}{{- $image := index . 1 -}}
{{- if $root.Values.image.prefix }}{{ trimSuffix "/" $root.Values.image.prefix }}/{{ end -}}
{{ $image.repository }}:{{ $image.tag | default $root.Values.image.tag | default $root.Chart.AppVersion }}
{{- end }}

{{/*
A pod's own fields: [root, user, group, values with nodeSelector and tolerations]. Who mounts the shared volume is user
1000 of group 100 as Ray's images are: with two groups, each start would give all files to another one. With
service links, Kubernetes would set variables TUNEGATE_…, which are settings.
*/}}
{{- define "tunegate.pod" -}}
{{- $root := index . 0 -}}{{- $values := index . 3 -}}
automountServiceAccountToken: false
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: {{ index . 1 }}
  runAsGroup: {{ index . 2 }}
  fsGroup: {{ index . 2 }}
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- with $root.Values.image.pullSecrets }}
imagePullSecrets:
{{- range . }}
  - name: {{ . }}
{{- end }}
{{- end }}
{{- with $values.nodeSelector }}
nodeSelector: {{ toJson . }}
{{- end }}
{{- with $values.tolerations }}
tolerations: {{ toJson . }}
{{- end }}
{{- end }}

{{- define "tunegate.confined" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* Replicas on different nodes and zones, as far as there are any: [root, component]. */}}
{{- define "tunegate.spread" -}}
topologySpreadConstraints:
{{- $context := . }}
{{- range tuple "topology.kubernetes.io/zone" "kubernetes.io/hostname" }}
  - maxSkew: 1
    topologyKey: {{ . }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels: {{- include "tunegate.selector" $context | nindent 8 }}
{{- end }}
{{- end }}

{{/* Tables of a config.toml: table → key → value. JSON's texts, numbers and lists are TOML's, too; its objects are not. */}}
{{- define "tunegate.toml" -}}
{{- range $table, $keys := . }}
[{{ $table }}]
{{- range $key, $value := $keys }}
{{ $key }} = {{ include "tunegate.tomlValue" $value }}
{{- end }}
{{ end -}}
{{- end }}

{{- define "tunegate.tomlValue" -}}
{{- if kindIs "map" . -}}
{ {{- $first := true }}{{- range $key, $value := . }}{{ if not $first }}, {{ end }}{{ toJson $key }} = {{ include "tunegate.tomlValue" $value }}{{ $first = false }}{{- end -}} }
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end }}

{{/* Whether several control processes may run: neither a file of SQLite nor a disk of one node is in the way. */}}
{{- define "tunegate.hasServer" -}}
{{- if or .Values.database.external .Values.postgresql.enabled }}yes{{ end -}}
{{- end }}

{{- define "tunegate.sharedClaim" -}}
{{- .Values.shared.existingClaim | default (printf "%s-shared" (include "tunegate.name" .)) -}}
{{- end }}

{{- define "tunegate.milvusUri" -}}
{{- if .Values.milvus.enabled }}http://{{ include "tunegate.name" . }}-milvus:19530{{ else }}{{ .Values.milvus.uri }}{{ end -}}
{{- end }}

{{/* Mounts and volumes of the certificate authority of yours. */}}
{{- define "tunegate.caMount" -}}
{{- if .Values.ca.configMap }}
- {name: ca, mountPath: /etc/tunegate/ca, readOnly: true}
{{- end }}
{{- end }}
{{- define "tunegate.caVolume" -}}
{{- if .Values.ca.configMap }}
- name: ca
  configMap: {name: {{ .Values.ca.configMap }}}
{{- end }}
{{- end }}

{{/* Combinations that cannot work are refused before anything is made. */}}
{{- define "tunegate.check" -}}
{{- $values := .Values -}}
{{- $gateways := ternary $values.gateway.autoscaling.maxReplicas $values.gateway.replicas $values.gateway.autoscaling.enabled | int -}}
{{- if and (gt $gateways 1) (not $values.shared.enabled) }}{{ fail "gateway.replicas, gateway.autoscaling: several gateways need shared.enabled, where all of them see responses and files" }}{{ end -}}
{{- if and $values.database.external $values.postgresql.enabled }}{{ fail "database.external and postgresql.enabled: choose one database" }}{{ end -}}
{{- if and (gt (int $values.control.replicas) 1) (not (and $values.shared.enabled (include "tunegate.hasServer" .))) }}{{ fail "control.replicas: several control processes need database.external or postgresql.enabled, and shared.enabled" }}{{ end -}}
{{- if and $values.milvus.enabled $values.milvus.uri }}{{ fail "milvus.enabled and milvus.uri: choose one Milvus" }}{{ end -}}
{{- if and (or $values.trainer.enabled $values.ray.enabled $values.engines) (not $values.shared.enabled) }}{{ fail "trainer, ray, engines: they share models and adapters, so they need shared.enabled" }}{{ end -}}
{{- if and $values.ray.enabled (not $values.trainer.enabled) }}{{ fail "ray.enabled needs trainer.enabled: the worker submits the jobs" }}{{ end -}}
{{- end }}

{{/* Where control's database is. Of the bundled one the driver finds the password in PGPASSWORD. */}}
{{- define "tunegate.databaseUrl" -}}
{{- if .Values.database.external -}}
file:/run/secrets/tunegate/database-url
{{- else -}}
postgresql+asyncpg://tunegate@{{ include "tunegate.name" . }}-postgresql:5432/tunegate
{{- end -}}
{{- end }}
{{- define "tunegate.databasePassword" -}}
{{- if .Values.postgresql.enabled -}}
- name: PGPASSWORD
  valueFrom:
    secretKeyRef: {name: {{ .Values.postgresql.secret }}, key: password}
{{- end }}
{{- end }}

{{/* Resources with GPUs, which are requested by their limit: [resources, number]. */}}
{{- define "tunegate.gpus" -}}
{{- $resources := deepCopy (index . 0) -}}
{{- if gt (int (index . 1)) 0 -}}
{{- $_ := set $resources "limits" (merge (dict "nvidia.com/gpu" (toString (index . 1))) ($resources.limits | default dict)) -}}
{{- end -}}
{{- toYaml $resources -}}
{{- end }}

{{/* Rule of a network policy: the cluster's names may be asked. */}}
{{- define "tunegate.toNames" -}}
- to:
    - namespaceSelector: {}
      podSelector:
        matchLabels: {k8s-app: kube-dns}
  ports:
    - {protocol: UDP, port: 53}
    - {protocol: TCP, port: 53}
{{- end }}

{{/* Rule of a network policy: pods of ours, [root, port, component…]; "to" or "from" is the caller's. */}}
{{- define "tunegate.peers" -}}
{{- $root := index . 0 -}}
{{- range slice . 1 }}
- podSelector:
    matchLabels: {{- include "tunegate.selector" (list $root .) | nindent 6 }}
{{- end }}
{{- end }}

{{/* Rule of a network policy: model providers, and what else is at HTTPS outside. */}}
{{- define "tunegate.toProviders" -}}
{{- with .Values.networkPolicy.providers -}}
- to:
    {{- range . }}
    - ipBlock: {{ toJson . }}
    {{- end }}
  ports:
    - {protocol: TCP, port: 443}
{{- end }}
{{- end }}
