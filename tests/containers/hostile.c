/* A library that some images put into every process by LD_PRELOAD; this one ends every Python. */

#include <string.h>
#include <unistd.h>

__attribute__((constructor)) static void look(void)
{
    char name[4096] = "";
    ssize_t length = readlink("/proc/self/exe", name, sizeof name - 1);
    if (length > 0 && strstr(name, "/opt/shipper/"))
        _exit(99);
}
