# The server's image. Two targets end in the same runtime stage:
#   server    builds from source:    docker build --target server -t llm-memory .
#   prebuilt  takes a built binary:  docker build --target prebuilt --build-arg BINARY=dist/llm-memory .
# `./justw image` builds `prebuilt` without a daemon. Runs as user 65532 and writes to /data and
# /tmp only, so the root file system may be read-only.

ARG BASE=debian:bookworm-slim
ARG BUILDER=rust:1.95-slim-bookworm

FROM ${BUILDER} AS build
RUN apt-get update \
    && apt-get install -y --no-install-recommends gcc libc6-dev mold pkg-config \
    && rm -rf /var/lib/apt/lists/*
WORKDIR /src
COPY . .
# The registry and the target folder outlive this build where the builder keeps cache mounts.
RUN --mount=type=cache,target=/usr/local/cargo/registry \
    --mount=type=cache,target=/src/target \
    cargo build --release --locked --package llm-memory --bin llm-memory \
    && install -D -m 0755 target/release/llm-memory /out/llm-memory

FROM ${BASE} AS runtime
# The names make `ps` and `ls` readable; programs see the numbers.
RUN echo 'llm-memory:x:65532:65532:llm-memory:/data:/usr/sbin/nologin' >>/etc/passwd \
    && echo 'llm-memory:x:65532:' >>/etc/group \
    && mkdir /data && chown 65532:65532 /data && chmod 0750 /data
ENV LLM_MEMORY_DATA_DIR=/data
USER 65532:65532
WORKDIR /data
VOLUME /data
# MCP, health, metrics.
EXPOSE 3000 8080 9090
STOPSIGNAL SIGTERM
ENTRYPOINT ["/usr/local/bin/llm-memory"]
CMD ["serve"]

FROM runtime AS prebuilt
ARG BINARY=dist/llm-memory
COPY --chown=0:0 --chmod=0755 ${BINARY} /usr/local/bin/llm-memory

FROM runtime AS server
COPY --from=build --chown=0:0 /out/llm-memory /usr/local/bin/llm-memory
