"""Puts together what the package's image holds: an interpreter, its libraries and its loader, and shipper on top.

Runs in the image that the interpreter is taken from (glibc; Debian's layout or python.org's), with patchelf and strip:

    python3 -X no_debug_ranges -I assemble.py PACKAGES SHIPPER LAUNCHER LICENSE ROOT

PACKAGES   what `pip install --target` made of requirements.txt
SHIPPER    the project's own package
LAUNCHER   launcher.c, compiled
LICENSE    the project's
ROOT       the image's root, which must not exist; in the end it holds nothing but

    usr/local/bin/shipper         a link to
    opt/shipper/bin/shipper       the launcher, which starts bin/python3 with bin/shipper.py
               lib/               loader, libraries, an openssl.cnf without a module, python3.X with lib-dynload
               packages/          shipper and what it needs
               licenses/          of all that is in here

Libraries come out of opt/shipper/lib and from nowhere else: the interpreter's DT_RPATH, which comes before
LD_LIBRARY_PATH, counts for all that is loaded, and DF_1_NODEFLIB in every file shuts out the image's own directories,
where an nsswitch.conf that names mdns4 or resolve would find modules made for another C library. `check.py` then
imports everything that is left, from where it will lie.

Python's modules are compiled and their sources left out: half the size, nothing to compile or to write in a read-only
image. Without the columns of tracebacks, which nobody gets to see (-X no_debug_ranges).
"""

from __future__ import annotations

import argparse
import fnmatch
import gzip
import os
import py_compile
import re
import shutil
import struct
import subprocess
import sys
import sysconfig
from pathlib import Path

PREFIX = Path("/opt/shipper")
LOADER = PREFIX / "lib/ld.so"
"""A link to it: short enough to stand where /lib64/ld-linux-x86-64.so.2 or /lib/ld-linux-aarch64.so.1 stood."""

UNUSED_MODULES = """
    __hello__ __phello__ _aix_support _android_support _apple_support _ios_support _bootsubprocess
    _distutils_system_mod _osx_support _pydecimal _pyio _pyrepl antigravity
    this turtle turtledemo idlelib tkinter test unittest doctest lib2to3 distutils ensurepip venv
    pydoc pydoc_data pdb bdb cmd code codeop cProfile profile pstats trace tracemalloc timeit tabnanny pyclbr
    modulefinder pickletools zipapp compileall py_compile symtable rlcompleter sitecustomize config-*
    aifc audioop chunk colorsys sndhdr sunau wave imghdr ossaudiodev
    cgi cgitb crypt nis nntplib poplib imaplib smtpd smtplib telnetlib ftplib mailbox mailcap pipes uu xdrlib
    asynchat asyncore imp msilib spwd _crypt
    sqlite3 _sqlite3 dbm _dbm _gdbm shelve curses _curses _curses_panel readline _tkinter
    wsgiref xmlrpc webbrowser bz2 _bz2 lzma _lzma _lsprof
    _codecs_* _multibytecodec _test* _ctypes_test _xxtestfuzz _xxsubinterpreters _xxinterpchannels xxlimited*
    LICENSE.txt
""".split()
"""Of the standard library, by name. bz2 and lzma, which urllib3 and shutil take when they are there, no server is
asked for: zlib is enough."""

UNUSED_ENCODINGS = """
    mbcs oem bz2_codec big5 big5hkscs cp932 cp949 cp950 euc_jis_2004 euc_jisx0213 euc_jp euc_kr gb18030 gb2312 gbk hz
    iso2022_* johab shift_jis shift_jis_2004 shift_jisx0213
""".split()
"""Windows', bz2's, and those that need _codecs_*."""

UNUSED_IN_PACKAGES = (
    "*.pyi *.pyx *.pxd *.c *.h *.hash py.typed */__pycache__/* bin/* *.dist-info/RECORD *.dist-info/direct_url.json "
    "aiohttp/test_utils.py aiohttp/pytest_plugin.py aiohttp/.hash/* multidict/_testcapi.* certifi/tests/* "
    "botocore/cacert.pem botocore/crt/auth.py dateutil/zoneinfo/* urllib3/contrib/socks.py"
).split()
"""botocore's certificates are an older copy of certifi's; its crt/auth wants a library that nobody has installed."""

BOTOCORE_DATA = "logs/* partitions.json sdk-default-configuration.json _retry.json".split()
"""What the client of CloudWatch Logs reads (shipper/sinks/cloudwatch.py does without endpoints.json)."""

BY_NAME = ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2")
"""glibc loads these by itself when a thread is cancelled or a name resolved (the last two only before 2.34)."""

PT_DYNAMIC, PT_INTERP, DT_NULL, DT_FLAGS_1, DF_1_NODEFLIB = 2, 3, 0, 0x6FFFFFFB, 0x800
"""elf(5), <elf.h>"""

OPENSSL_CNF = "# Empty on purpose: the image's own may name modules of another OpenSSL.\n"


class Layout:
    """Where things go, below ``root``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.home = root / PREFIX.relative_to("/")
        self.bin = self.home / "bin"
        self.lib = self.home / "lib"
        self.stdlib = self.lib / f"python{sys.version_info[0]}.{sys.version_info[1]}"
        self.packages = self.home / "packages"
        self.licenses = self.home / "licenses"

    def installed(self, path: Path) -> str:
        """The path as it will be in an image."""
        return str(Path("/") / path.relative_to(self.root))


def main() -> None:
    parser = argparse.ArgumentParser()
    for name in ("packages", "shipper", "launcher", "license", "root"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    layout = Layout(arguments.root)
    for directory in (layout.bin, layout.lib, layout.packages, layout.licenses):
        directory.mkdir(parents=True)
    put_interpreter(layout)
    put_standard_library(layout)
    put_packages(layout, arguments.packages, arguments.shipper)
    put_launcher(layout, arguments.launcher)
    put_licenses(layout, arguments.license)
    put_libraries(layout)
    tidy(layout)
    report(layout)


def put_interpreter(layout: Layout) -> None:
    shutil.copy(os.path.realpath(sys.executable), layout.bin / "python3")


def put_standard_library(layout: Layout) -> None:
    source = Path(sysconfig.get_path("stdlib"))

    def unused(directory: str, names: list[str]) -> set[str]:
        place = Path(directory)
        if place == source:
            left_out = ["__pycache__", "site-packages", "dist-packages", "_sysconfigdata_*", *UNUSED_MODULES]
        elif place.name == "lib-dynload":
            left_out = UNUSED_MODULES
        elif place.name == "encodings":
            left_out = ["__pycache__", *UNUSED_ENCODINGS]
        else:
            left_out = ["__pycache__", "test", "tests", "windows_*"]
        return {name for name in names if any(fnmatch.fnmatch(name.split(".")[0], one) or name == one
                                              for one in left_out)}  # fmt: skip

    shutil.copytree(source, layout.stdlib, ignore=unused)
    compile_all(layout, layout.stdlib)


def put_packages(layout: Layout, packages: Path, shipper: Path) -> None:
    for path in sorted(path for path in packages.rglob("*") if path.is_file()):
        name = path.relative_to(packages).as_posix()
        if name.startswith("botocore/data/"):
            wanted = any(fnmatch.fnmatch(name, f"botocore/data/{one}*") for one in BOTOCORE_DATA)
            wanted = wanted and "/examples-" not in name and "/waiters-" not in name and "/paginators-" not in name
        else:
            wanted = not any(fnmatch.fnmatch(name, one) for one in UNUSED_IN_PACKAGES)
        if wanted:
            copy(path, layout.packages / name)
    for path in sorted(path for path in shipper.rglob("*") if path.is_file() and "__pycache__" not in path.parts):
        copy(path, layout.packages / "shipper" / path.relative_to(shipper))
    compile_all(layout, layout.packages)


def copy(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    shutil.copy(source, target)


def compile_all(layout: Layout, directory: Path) -> None:
    """Every source to a module beside it, in its place. The same bytes from the same sources: no times in them."""
    for path in sorted(directory.rglob("*.py")):
        py_compile.compile(
            str(path),
            cfile=f"{path}c",
            dfile=layout.installed(path),
            doraise=True,
            optimize=0,
            invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH,
        )
        path.unlink()


def put_launcher(layout: Layout, launcher: Path) -> None:
    shutil.copy(launcher, layout.bin / "shipper")
    shutil.copy(Path(__file__).with_name("shipper.py"), layout.bin)
    (layout.lib / "openssl.cnf").write_text(OPENSSL_CNF)
    link = layout.root / "usr/local/bin/shipper"
    link.parent.mkdir(parents=True)
    link.symlink_to(PREFIX / "bin/shipper")


def put_licenses(layout: Layout, project: Path) -> None:
    """The project's and Python's; each package brings its own in its dist-info."""
    shutil.copy(project, layout.licenses / "agent-shipper")
    stdlib, version = Path(sysconfig.get_path("stdlib")), f"{sys.version_info[0]}.{sys.version_info[1]}"
    for place in (stdlib / "LICENSE.txt", Path(f"/usr/share/doc/python{version}/copyright")):
        if place.is_file():
            shutil.copy(place, layout.licenses / "python")
            return
    sys.exit("assemble: Python's licence is not in this image.")


def put_libraries(layout: Layout) -> None:
    """The loader and whatever a binary in here is linked with."""
    interpreter = layout.bin / "python3"
    loader = Path(output("patchelf", "--print-interpreter", str(interpreter)))
    if "musl" in loader.name:
        sys.exit("assemble: this Python is linked with musl; take an image of Debian's, the package runs on both.")
    objects = [interpreter, *layout.home.rglob("*.so")]
    found: dict[str, Path] = {}
    for path in [*objects, *named(loader)]:
        if path not in objects:
            found[path.name] = path
        for name, place in re.findall(r"(\S+) => (/\S+)", output("ldd", str(path))):
            found[name] = Path(place)
    found.pop(loader.name, None)
    for name, path in sorted(found.items()):
        shutil.copy(path.resolve(), layout.lib / name)
        put_license(layout, path)
    shutil.copy(loader.resolve(), layout.lib / loader.name)
    for path in [*objects, *(layout.lib / name for name in found)]:
        path.chmod(0o755)
        subprocess.run(["strip", "--strip-unneeded", str(path)], check=True)  # after patchelf it would break the file
        shut_out_default_directories(path)
        if path != interpreter and output("patchelf", "--print-rpath", str(path)):
            subprocess.run(["patchelf", "--remove-rpath", str(path)], check=True)  # else the interpreter's counts not
    (layout.lib / LOADER.name).symlink_to(loader.name)
    set_loader(interpreter)
    subprocess.run(["patchelf", "--force-rpath", "--set-rpath", str(PREFIX / "lib"), str(interpreter)], check=True)


class Elf:
    """A file of 64 bits and its program headers, to be changed in place.

    patchelf could do what is done here, but not in every version: Debian 13's 0.18 breaks a Python that is not
    position-independent when it sets an interpreter and anything else.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.data = bytearray(path.read_bytes())
        if self.data[:5] != b"\x7fELF\x02":
            sys.exit(f"assemble: {path} is no ELF file of 64 bits.")
        self.order = {1: "<", 2: ">"}[self.data[5]]
        (self._headers,) = struct.unpack_from(self.order + "Q", self.data, 32)
        self._entry_bytes, self._count = struct.unpack_from(self.order + "HH", self.data, 54)

    def segment(self, kind: int) -> tuple[int, int]:
        """Offset and size of the one that there is of this kind."""
        for number in range(self._count):
            header = self._headers + number * self._entry_bytes
            found, _, offset, _, _, size = struct.unpack_from(self.order + "IIQQQQ", self.data, header)
            if found == kind:
                return offset, size
        sys.exit(f"assemble: {self.path} is not linked dynamically.")

    def save(self) -> None:
        self.path.write_bytes(self.data)


def shut_out_default_directories(path: Path) -> None:
    """Sets DF_1_NODEFLIB, in one of the entries that the linker leaves free for such."""
    elf = Elf(path)
    offset, size = elf.segment(PT_DYNAMIC)
    tags = [struct.unpack_from(elf.order + "QQ", elf.data, at) for at in range(offset, offset + size, 16)]
    names = [tag for tag, _ in tags]
    end = names.index(DT_NULL)
    if DT_FLAGS_1 not in names[:end] and end + 1 == len(names):  # the last one is the end
        sys.exit(f"assemble: {path} has no free entry in its dynamic section.")
    index = names.index(DT_FLAGS_1) if DT_FLAGS_1 in names[:end] else end
    entry = DT_FLAGS_1, tags[index][1] | DF_1_NODEFLIB
    struct.pack_into(elf.order + "QQ", elf.data, offset + 16 * index, *entry)
    elf.save()


def set_loader(path: Path) -> None:
    """Puts `LOADER` in the place of the path that there is, which is longer."""
    elf = Elf(path)
    offset, size = elf.segment(PT_INTERP)
    text = os.fsencode(LOADER)
    if len(text) >= size:
        sys.exit(f"assemble: there is no room for {LOADER} in {path}.")
    elf.data[offset : offset + size] = text.ljust(size, b"\0")
    elf.save()


def named(loader: Path) -> list[Path]:
    """The libraries of `BY_NAME` that there are, from where the loader finds them."""
    listed = output("ldconfig", "-p") if shutil.which("ldconfig") else output("/sbin/ldconfig", "-p")
    beside = loader.resolve().parent
    places = {Path(place) for place in re.findall(r"=> (/\S+)", listed)} | {beside / name for name in BY_NAME}
    places |= {Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib") / name for name in BY_NAME}
    multiarch = sysconfig.get_config_var("MULTIARCH") or ""
    found = []
    for name in BY_NAME:
        there = sorted(place for place in places if place.name == name and place.exists())
        mine = [place for place in there if multiarch in str(place)] or there
        if not mine and name == "libgcc_s.so.1":
            sys.exit(f"assemble: {name} is not in this image, without which a thread cannot end.")
        found += mine[:1]
    return found


def put_license(layout: Layout, library: Path) -> None:
    """Debian's copyright file of the package that a library comes from."""
    for place in dict.fromkeys([library, library.resolve(), Path("/usr") / library.relative_to("/")]):
        owner = subprocess.run(["dpkg", "-S", str(place)], check=False, capture_output=True, text=True)
        if owner.returncode == 0:
            package = owner.stdout.partition(":")[0]
            text = Path("/usr/share/doc") / package / "copyright"
            if text.is_file():
                with open(text, "rb") as file, gzip.GzipFile(layout.licenses / f"{package}.gz", "wb", mtime=0) as to:
                    shutil.copyfileobj(file, to)
            return


def output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def tidy(layout: Layout) -> None:
    """Readable for every user, writable for root alone; directories that came to be empty go."""
    for path in sorted(layout.root.rglob("*"), reverse=True):
        if path.is_symlink():
            continue
        if path.is_dir():
            if not any(path.iterdir()):
                path.rmdir()
            else:
                path.chmod(0o755)
        else:
            executable = path.suffix not in (".py", ".cnf") and path.parent in (layout.bin, layout.lib)
            path.chmod(0o755 if executable else 0o644)


def report(layout: Layout) -> None:
    for path in (layout.bin, layout.lib, layout.stdlib, layout.packages, layout.home):
        size = sum(one.lstat().st_size for one in path.rglob("*") if not one.is_dir())
        print(f"{layout.installed(path):<32} {size / 1e6:6.1f} MB")


if __name__ == "__main__":
    main()
