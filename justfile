# The commands of a working day. `just` alone lists them; each is also a plain command that can be typed.

_default:
    @just --list

# Serve a demo catalogue on loopback, with curl lines to paste
demo:
    cargo run --release -- demo

# Everything that must hold before a change lands
ci:
    bash .ci/run

test:
    cargo test

lint:
    cargo fmt --all --check
    cargo clippy --all-targets -- -D warnings

# Kernels: decode and resize, inference, search, ranking
bench:
    cargo bench --bench vision --bench inference --bench index --bench ranking

# The service under load; see docs/performance.md
load *ARGS:
    cargo bench --bench load -- {{ARGS}}

# Kill a server in the middle of its writes, again and again; SEED takes other moments
kill CYCLES="200" SEED="1":
    UPNEXT_KILL_CYCLES={{ CYCLES }} UPNEXT_KILL_SEED={{ SEED }} cargo test --test it kill:: -- --nocapture

# Feed made-up input to what reads other people's bytes; needs a nightly compiler
fuzz TARGET="all" SECONDS="60":
    scripts/fuzz {{ TARGET }} {{ SECONDS }}
