# The site of charts/nginx inside of a container, for compose.yaml: a port that users without rights may open, the
# other containers, one certificate for both names.
s/listen 443 ssl/listen 8443 ssl/
s/127\.0\.0\.1:8080/control:8080/
s/127\.0\.0\.1:8000/gateway:8000/
s,/etc/ssl/[a-z]*\.example\.com\.crt,/run/secrets/tls.crt,
s,/etc/ssl/[a-z]*\.example\.com\.key,/run/secrets/tls.key,
s/console\.example\.com/console.localhost/
s/llm\.example\.com/llm.localhost/
