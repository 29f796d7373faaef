{{- define "sluice.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" }}
{{- end }}

{{- define "sluice.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 40 | trimSuffix "-" }}
{{- else if contains (include "sluice.name" .) .Release.Name }}
{{- .Release.Name | trunc 40 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name (include "sluice.name" .) | trunc 40 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The three services: what each is called and has. `key` is its place in the values. */}}
{{- define "sluice.services" -}}
gateway: {key: gateway, name: ingest-gateway, adminPort: 9101, volume: true, store: false, kafka: true}
writer: {key: writer, name: kafka-consumer-writer, adminPort: 9102, volume: true, store: true, kafka: true}
aggregator: {key: aggregator, name: aggregator, adminPort: 9103, volume: false, store: true, kafka: false}
{{- end }}

{{/* The selector of one service's pods: (dict "root" $ "service" service). */}}
{{- define "sluice.selector" -}}
app.kubernetes.io/name: {{ include "sluice.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ default .service.name .service.component }}
{{- end }}

{{- define "sluice.labels" -}}
app.kubernetes.io/name: {{ include "sluice.name" .root }}
app.kubernetes.io/instance: {{ .root.Release.Name }}
{{- with .service }}
app.kubernetes.io/component: {{ default .name .component }}
{{- end }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- define "sluice.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "sluice.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{- define "sluice.storeClaim" -}}
{{- default (printf "%s-store" (include "sluice.fullname" .)) .Values.store.existingClaim }}
{{- end }}

{{/* The configuration of one service: what the user says, without what is not this service's
business, and with what the chart decides. */}}
{{- define "sluice.config" -}}
{{- $values := .root.Values }}
{{- $config := deepCopy $values.config }}
{{- range $path := list "dataDir" "server.addr" "server.adminAddr" "server.shutdownTimeout" "ingestion.producerDLQDir" "kafka.groupInstanceID" "consumer.dlqDir" "consumer.adminAddr" "consumer.shutdownTimeout" "storage.logsDir" "storage.analyticsDir" "storage.archiveDir" "aggregation.adminAddr" "aggregation.shutdownTimeout" }}
{{- $at := $config }}
{{- range $part := splitList "." $path }}
{{- $at = ternary (get $at $part) nil (and (kindIs "map" $at) (hasKey $at $part)) }}
{{- end }}
{{- if not (kindIs "invalid" $at) }}
{{- fail (printf "config.%s is the chart's: found %v; shutdown timeouts, ports and volumes are set under gateway, writer, aggregator and store" $path $at) }}
{{- end }}
{{- end }}
{{- $seconds := printf "%vs" (int (get $values .service.key).shutdownTimeoutSeconds) }}
{{- $kafka := $config.kafka }}
{{- $ours := dict "dataDir" "/var/lib/sluice" "storage" (dict "logsDir" "store/logs" "analyticsDir" "store/analytics" "archiveDir" "store/archive") }}
{{- if eq .service.key "gateway" }}
{{- $_ := set $ours "server" (dict "addr" "0.0.0.0:8080" "adminAddr" "0.0.0.0:9101" "shutdownTimeout" $seconds) }}
{{- else if eq .service.key "writer" }}
{{- $config = omit $config "auth" "server" }}
{{- $_ := set $ours "consumer" (dict "adminAddr" "0.0.0.0:9102" "dlqDir" "store/dlq/consumer" "shutdownTimeout" $seconds) }}
{{- $_ := set $ours "kafka" (dict "groupInstanceID" "${POD_NAME}") }}
{{- else }}
{{- $config = omit $config "auth" "server" }}
{{- $_ := set $config "kafka" (omit $kafka "tls" "sasl") }}
{{- $_ := set $ours "aggregation" (dict "adminAddr" "0.0.0.0:9103" "shutdownTimeout" $seconds) }}
{{- end }}
{{- mergeOverwrite $config $ours | toYaml }}
{{- end }}

{{/* The pod of one service: (dict "root" $ "service" service "args" list "restart" policy). With
restart Never it is a Job's, that nobody asks; its state is then on the claim of "claim". */}}
{{- define "sluice.pod" -}}
{{- $root := .root }}
{{- $service := .service }}
{{- $values := get $root.Values $service.key }}
{{- $job := eq .restart "Never" }}
{{- $sleep := int (default 0 $values.preStopSleepSeconds) }}
metadata:
  labels:
    {{- include "sluice.labels" . | nindent 4 }}
    {{- with $values.podLabels }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  annotations:
    # A changed configuration is a new pod.
    checksum/config: {{ include "sluice.config" . | sha256sum }}
    {{- with $values.podAnnotations }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "sluice.serviceAccount" $root }}
  # No service talks to Kubernetes.
  automountServiceAccountToken: false
  enableServiceLinks: false
  restartPolicy: {{ .restart }}
  terminationGracePeriodSeconds: {{ add (int $values.shutdownTimeoutSeconds) $sleep 15 }}
  securityContext:
    {{- toYaml $root.Values.podSecurityContext | nindent 4 }}
  {{- with $root.Values.image.pullSecrets }}
  imagePullSecrets:
    {{- range . }}
    - name: {{ . }}
    {{- end }}
  {{- end }}
  {{- with $values.priorityClassName }}
  priorityClassName: {{ . }}
  {{- end }}
  containers:
    - name: {{ $service.name }}
      image: {{ printf "%s/%s:%s" $root.Values.image.registry $service.name (default $root.Chart.AppVersion $root.Values.image.tag) }}
      imagePullPolicy: {{ $root.Values.image.pullPolicy }}
      args: {{ concat (list "--config" "/etc/sluice/config.yaml") .args | toJson }}
      env:
        # Fixed in a StatefulSet: the writer's name in its group.
        - name: POD_NAME
          valueFrom: {fieldRef: {fieldPath: metadata.name}}
        {{- with $values.env }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- if not $job }}
      ports:
        {{- if eq $service.key "gateway" }}
        - {name: http, containerPort: 8080}
        {{- end }}
        - {name: admin, containerPort: {{ $service.adminPort }}}
      # Answers as soon as the process runs, whatever Kafka and the disk do.
      startupProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 2
        failureThreshold: 30
      livenessProbe:
        httpGet: {path: /livez, port: admin}
        periodSeconds: 10
        timeoutSeconds: 5
        failureThreshold: 6
      readinessProbe:
        httpGet: {path: /readyz, port: admin}
        periodSeconds: 5
        timeoutSeconds: 3
        failureThreshold: 2
      {{- if $sleep }}
      lifecycle:
        preStop: {sleep: {seconds: {{ $sleep }}}}
      {{- end }}
      {{- end }}
      securityContext:
        allowPrivilegeEscalation: false
        readOnlyRootFilesystem: true
        capabilities: {drop: [ALL]}
      resources:
        {{- toYaml $values.resources | nindent 8 }}
      volumeMounts:
        - {name: config, mountPath: /etc/sluice/config.yaml, subPath: config.yaml, readOnly: true}
        {{- range $name, $secret := $root.Values.secrets }}
        {{- if has $service.key $secret.services }}
        - {name: secret-{{ $name }}, mountPath: /etc/sluice/secrets/{{ $name }}, readOnly: true}
        {{- end }}
        {{- end }}
        {{- if $service.volume }}
        - {name: state, mountPath: /var/lib/sluice}
        {{- end }}
        {{- if $service.store }}
        - {name: store, mountPath: /var/lib/sluice/store}
        {{- end }}
  volumes:
    - name: config
      configMap:
        name: {{ include "sluice.fullname" $root }}-{{ $service.key }}
    {{- range $name, $secret := $root.Values.secrets }}
    {{- if has $service.key $secret.services }}
    - name: secret-{{ $name }}
      secret: {secretName: {{ $secret.secretName }}, defaultMode: 288}
    {{- end }}
    {{- end }}
    {{- with .claim }}
    - name: state
      persistentVolumeClaim: {claimName: {{ . }}}
    {{- end }}
    {{- if $service.store }}
    - name: store
      persistentVolumeClaim: {claimName: {{ include "sluice.storeClaim" $root }}}
    {{- end }}
  {{- with $values.nodeSelector }}
  nodeSelector:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- with $values.tolerations }}
  tolerations:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  affinity:
    {{- if $values.affinity }}
    {{- toYaml $values.affinity | nindent 4 }}
    {{- else }}
    podAntiAffinity:
      preferredDuringSchedulingIgnoredDuringExecution:
        - weight: 100
          podAffinityTerm:
            topologyKey: kubernetes.io/hostname
            labelSelector:
              matchLabels:
                {{- include "sluice.selector" . | nindent 16 }}
    {{- end }}
{{- end }}

{{/* Egress rules for who speaks with Kafka. */}}
{{- define "sluice.toKafka" -}}
{{- $kafka := .Values.networkPolicy.kafka }}
{{- $ports := $kafka.ports }}
{{- if not $ports }}
{{- range $broker := .Values.config.kafka.brokers }}
{{- $ports = append $ports (regexFind "[0-9]+$" $broker | int) }}
{{- end }}
{{- end }}
- ports: [{protocol: UDP, port: 53}, {protocol: TCP, port: 53}]
- ports:
    {{- range $ports | uniq | sortAlpha }}
    - {protocol: TCP, port: {{ . }}}
    {{- end }}
  {{- with $kafka.to }}
  to:
    {{- toYaml . | nindent 4 }}
  {{- end }}
{{- end }}
