# The images of the server and of the operator. Each has two targets that end in the same stage:
#   server             from source:      docker build --target server -t llm-memory .
#   prebuilt           a built binary:   docker build --target prebuilt --build-arg BINARY=dist/llm-memory .
#   operator           from source:      docker build --target operator -t llm-memory-operator .
#   operator-prebuilt  built binaries:   docker build --target operator-prebuilt --build-arg BINARIES=dist .
# `./justw image` builds the prebuilt ones without a daemon. All run as user 65532. The server
# writes to /data and /tmp only and the operator nowhere, so root file systems may be read-only.

ARG BASE=debian:bookworm-slim
ARG BUILDER=rust:1.95-slim-bookworm

FROM ${BUILDER} AS source
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev mold pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .

# The registry and the target folder outlive these builds where the builder keeps cache mounts.
FROM source AS build
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package llm-memory --bin llm-memory \
    && install -D -m 0755 target/release/llm-memory /out/llm-memory

FROM source AS build-operator
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target,sharing=locked \
    cargo build --release --locked --package llm-memory-operator \
        --bin llm-memory-operator --bin kubectl-memory \
    && install -D -m 0755 -t /out target/release/llm-memory-operator target/release/kubectl-memory

# What both images have in common. The name makes `ps` and `ls` readable; programs see the number.
FROM ${BASE} AS nonroot
RUN echo 'llm-memory:x:65532:65532:llm-memory:/nonexistent:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'llm-memory:x:65532:' >>/etc/group
# Authorities of public certificates, for identity providers and whatever else is reached by HTTPS.
RUN [ -e /etc/ssl/certs/ca-certificates.crt ] || { apt-get update \
    && DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends ca-certificates \
    && rm -rf /var/lib/apt/lists/*; }
STOPSIGNAL SIGTERM

FROM nonroot AS runtime
RUN mkdir /data && chown 65532:65532 /data && chmod 0750 /data
ENV LLM_MEMORY_DATA_DIR=/data HOME=/data
USER 65532:65532
WORKDIR /data
VOLUME /data
# MCP, health, metrics.
EXPOSE 3000 8080 9090
ENTRYPOINT ["/usr/local/bin/llm-memory"]
CMD ["serve"]

FROM runtime AS prebuilt
ARG BINARY=dist/llm-memory
COPY --chown=0:0 --chmod=0755 ${BINARY} /usr/local/bin/llm-memory

FROM nonroot AS runtime-operator
# One heap for the few threads: with one each, freed memory lies about where others cannot use it.
ENV MALLOC_ARENA_MAX=1
USER 65532:65532
WORKDIR /
# Metrics and health.
EXPOSE 8080
ENTRYPOINT ["/usr/local/bin/llm-memory-operator"]

FROM runtime-operator AS operator-prebuilt
ARG BINARIES=dist
COPY --chown=0:0 --chmod=0755 ${BINARIES}/llm-memory-operator ${BINARIES}/kubectl-memory /usr/local/bin/

FROM runtime-operator AS operator
COPY --from=build-operator --chown=0:0 /out/ /usr/local/bin/

# Last, so that it is what a build without --target makes.
FROM runtime AS server
COPY --from=build --chown=0:0 /out/llm-memory /usr/local/bin/llm-memory
