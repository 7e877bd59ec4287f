# Builds pktvisord with its kernel programs, and pktvisor, and leaves what runs them.
#
#   docker build -t pktvisor .
#   docker run --net=host --cap-add BPF --cap-add NET_ADMIN --cap-add PERFMON pktvisor pktvisord any
#
# Without --cap-add it captures through libpcap, and says so.

FROM rust:1.95-slim-bookworm AS build
WORKDIR /pktvisor
COPY . .
RUN cargo xtask setup --ebpf
RUN cargo xtask build-ebpf
RUN cargo build --release --locked -p pktvisord -p pktvisor-tui
RUN strip target/release/pktvisord target/release/pktvisor

FROM debian:bookworm-slim
RUN apt-get update \
 && apt-get install --yes --no-install-recommends libcap2-bin libpcap0.8 \
 && useradd --system --no-create-home --shell /usr/sbin/nologin pktvisor \
 && rm -rf /var/lib/apt/lists/*
COPY --from=build /pktvisor/target/release/pktvisord /pktvisor/target/release/pktvisor /usr/bin/
# Permitted only: the program takes what there is, and starts where the container has not all of it.
RUN setcap cap_bpf,cap_net_admin,cap_net_raw,cap_perfmon=p /usr/bin/pktvisord
USER pktvisor
# With --net=host loopback is the host's. Elsewhere -l HOST, and who may ask, are needed.
CMD ["pktvisord", "any"]
