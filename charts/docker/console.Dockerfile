# The image of nginx with the built console, and the site of charts/nginx for names below .localhost; the Helm chart brings
# its own over it. Built from the top of the repository; README.md says how.
ARG NODE=node:20-bookworm-slim
ARG NGINX=nginx:1.28.0-bookworm

FROM ${NODE} AS console
WORKDIR /src/console
COPY console/package.json console/package-lock.json console/.npmrc ./
RUN npm ci --no-audit --no-fund
COPY console ./
RUN npm run build

FROM ${NGINX}
COPY charts/docker/nginx.conf /etc/nginx/nginx.conf
COPY charts/nginx/tunegate.conf charts/docker/site.sed /tmp/
RUN rm -r /etc/nginx/conf.d && mkdir /etc/nginx/conf.d \
    && sed -f /tmp/site.sed /tmp/tunegate.conf > /etc/nginx/conf.d/tunegate.conf && rm /tmp/tunegate.conf /tmp/site.sed
COPY --from=console /src/console/dist /usr/share/tunegate/console
USER 101:101
EXPOSE 8443
STOPSIGNAL SIGQUIT
HEALTHCHECK --interval=10s --timeout=4s --start-period=10s --retries=3 \
  CMD ["curl", "--silent", "--insecure", "--output", "/dev/null", "https://127.0.0.1:8443/"]
ENTRYPOINT ["nginx", "-g", "daemon off;"]
