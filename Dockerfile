# syntax=docker/dockerfile:1
#
#   docker build -t upnext .                    # CPU
#   docker build -t upnext:cuda --target cuda . # NVIDIA GPU (CUDA 13, cuDNN 9)
#
# The image starts `upnext serve`. Mount a volume at /var/lib/upnext: the log, the catalogue, the keys and the
# certificate live there.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /src
RUN apt-get update \
    && apt-get install --yes --no-install-recommends gcc libc6-dev python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
COPY Cargo.toml Cargo.lock rust-toolchain.toml ./
COPY benches benches
COPY config config
COPY models models
COPY src src
RUN cargo build --release --locked --bin upnext \
    && target/release/upnext runtime install --dir /opt/onnxruntime

FROM build AS build-cuda
RUN cargo build --release --locked --features gpu --bin upnext \
    && target/release/upnext runtime install --gpu --dir /opt/onnxruntime-gpu

FROM nvidia/cuda:13.0.1-cudnn-runtime-ubuntu24.04 AS cuda
RUN useradd --system --uid 10001 --home-dir /var/lib/upnext --create-home upnext
COPY --from=build-cuda /src/target/release/upnext /usr/local/bin/upnext
COPY --from=build-cuda /opt/onnxruntime-gpu /opt/onnxruntime
ENV UPNEXT__DATA_DIR=/var/lib/upnext \
    UPNEXT__INFERENCE__RUNTIME_DIR=/opt/onnxruntime \
    UPNEXT__INFERENCE__PROVIDERS='["tensorrt", "cuda", "cpu"]' \
    UPNEXT__SERVER__BIND=0.0.0.0:8443
USER 10001
WORKDIR /var/lib/upnext
VOLUME /var/lib/upnext
EXPOSE 8443
HEALTHCHECK --interval=15s --timeout=5s --start-period=120s --retries=3 CMD ["upnext", "health"]
ENTRYPOINT ["upnext"]
CMD ["serve"]

FROM debian:bookworm-slim AS cpu
RUN useradd --system --uid 10001 --home-dir /var/lib/upnext --create-home upnext
COPY --from=build /src/target/release/upnext /usr/local/bin/upnext
COPY --from=build /opt/onnxruntime /opt/onnxruntime
ENV UPNEXT__DATA_DIR=/var/lib/upnext \
    UPNEXT__INFERENCE__RUNTIME_DIR=/opt/onnxruntime \
    UPNEXT__SERVER__BIND=0.0.0.0:8443
USER 10001
WORKDIR /var/lib/upnext
VOLUME /var/lib/upnext
EXPOSE 8443
HEALTHCHECK --interval=15s --timeout=5s --start-period=60s --retries=3 CMD ["upnext", "health"]
ENTRYPOINT ["upnext"]
CMD ["serve"]
