# syntax=docker/dockerfile:1

# Both can be replaced by mirrors or other releases:
#   docker build --build-arg RUN_IMAGE=debian:trixie-slim .
# The run-time image needs a C library no older than the build's, and bash
# for the health check.
ARG BUILD_IMAGE=rust:1-slim-bookworm
ARG RUN_IMAGE=debian:bookworm-slim

FROM ${BUILD_IMAGE} AS build
WORKDIR /src
COPY . .
# The binary carries the list of what it was made of: docs/packaging.md.
RUN cargo install --locked cargo-auditable \
  && cargo auditable build --release --locked --bin moorgate

FROM ${RUN_IMAGE}
# Roots for https:// upstreams come from the build image; nothing is installed.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/ca-certificates.crt
COPY --from=build /src/target/release/moorgate /usr/local/bin/moorgate
COPY examples/docker/moorgate.json /etc/moorgate/moorgate.json
COPY pools/default.json /etc/moorgate/pools/default.json
RUN mkdir -p /var/lib/moorgate && chown 65532:65532 /var/lib/moorgate

USER 65532:65532
WORKDIR /var/lib/moorgate
VOLUME /var/lib/moorgate
EXPOSE 8080
STOPSIGNAL SIGTERM

# The slim image has no curl: bash asks the admin listener itself.
HEALTHCHECK --interval=10s --timeout=3s --start-period=5s --retries=3 \
  CMD ["bash", "-c", "exec 3<>/dev/tcp/127.0.0.1/9090 && printf 'GET /healthz HTTP/1.1\\r\\nHost: 127.0.0.1\\r\\nConnection: close\\r\\n\\r\\n' >&3 && read -r line <&3 && [[ $line == 'HTTP/1.1 200'* ]]"]

ENTRYPOINT ["moorgate"]
CMD ["run", "--config", "/etc/moorgate/moorgate.json"]
