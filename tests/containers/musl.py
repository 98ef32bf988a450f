"""An image without glibc, made where no image of Alpine's can be had: musl's loader and a shell linked against it.

The shell is mksh from Debian's source: `sh` with echo, cat, sleep and test built in, and nothing beside it.
"""

from __future__ import annotations

from tests.containers.engine import build, exists

MUSL = "shipper-local-musl:1"
"""Kept as the cache of the next run, as the package is."""

# Where the sources of Debian's packages are named: one file in an image of debootstrap's, another in the published one.
DOCKERFILE = """\
FROM debian:bookworm-slim AS build
RUN cd /etc/apt && touch sources.list sources.list.d/debian.sources \\
 && sed -n 's/^deb /deb-src /p' sources.list > sources.list.d/source.list \\
 && sed -i 's/^Types: deb$/Types: deb deb-src/' sources.list.d/debian.sources \\
 && apt-get update && apt-get install -y --no-install-recommends musl-tools
WORKDIR /build
RUN apt-get source --download-only mksh && mkdir src && tar -xf mksh_*.orig.tar.* -C src --strip-components=1
RUN mkdir -p /root/bin /root/lib /root/tmp && cd src && CC=musl-gcc CPPFLAGS=-DMKSH_BINSHPOSIX sh ./Build.sh -r \\
 && cp mksh /root/bin/sh && cp -L /lib/ld-musl-*.so.1 /root/lib/ && chmod 1777 /root/tmp
FROM scratch
COPY --from=build /root/ /
CMD ["/bin/sh"]
"""


def musl_base() -> str:
    """Its tag; about half a minute the first time."""
    return MUSL if exists(MUSL) else build(MUSL, {"Dockerfile": DOCKERFILE})
