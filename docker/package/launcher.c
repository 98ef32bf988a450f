/* shipper: starts the package's own interpreter, away from everything in the image that would get into it.
 *
 * Linked without a dynamic loader, so nothing in the environment acts on it. What acts on a loader, a C library or
 * OpenSSL (LD_PRELOAD of an allocator made for the image's C library would end our interpreter before its first line)
 * is meant for the agent: each such variable gets MARK in front of its name, which hides it from them. Behind the
 * agent's variables comes one whose name is MARK alone, then our own. `received_environment` in
 * shipper/supervisor/spawn.py gives the agent what stands before that, without the marks: what it would have had.
 * PYTHONHOME, PYTHONPATH and the like need no mark: -I ignores them.
 *
 * Where the interpreter cannot be executed, `run` becomes the agent.
 */

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define PYTHON PREFIX "/bin/python3"
#define SCRIPT PREFIX "/bin/shipper.py"
#define MARK "\x01" /* in no name that a shell or a container file could set */

enum { USAGE = 64, SOFTWARE = 70, NOT_EXECUTABLE = 126, NOT_FOUND = 127 };

extern char **environ;

/* ld.so(8), mallopt(3), locale(7), iconv(1), catopen(3), openssl-env(7) */
static const char *const hidden_prefixes[] = {"LD_", "MALLOC_", "LC_", "OPENSSL_"};
static const char *const hidden_names[] = {"GLIBC_TUNABLES", "GCONV_PATH", "LANG", "LANGUAGE", "LOCPATH", "NLSPATH"};

/* Without these OpenSSL would read the image's configuration, which may name modules of another OpenSSL, and Python
 * would load the image's C.UTF-8, made by another C library. In the C locale it uses UTF-8 by itself (PEP 540). */
static const char *const own[] = {MARK "=", "OPENSSL_CONF=" PREFIX "/lib/openssl.cnf", "LC_ALL=C"};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static int is_hidden(const char *entry)
{
    for (size_t i = 0; i < COUNT(hidden_prefixes); i++)
        if (strncmp(entry, hidden_prefixes[i], strlen(hidden_prefixes[i])) == 0)
            return 1;
    for (size_t i = 0; i < COUNT(hidden_names); i++) {
        size_t length = strlen(hidden_names[i]);
        if (strncmp(entry, hidden_names[i], length) == 0 && entry[length] == '=')
            return 1;
    }
    return 0;
}

/* The interpreter's environment; NULL without memory. */
static char **marked(char **received)
{
    size_t count = 0, bytes = 0;
    for (char **entry = received; *entry; entry++, count++)
        if (is_hidden(*entry))
            bytes += strlen(MARK) + strlen(*entry) + 1;
    char **result = malloc((count + COUNT(own) + 1) * sizeof *result + bytes);
    if (!result)
        return NULL;
    char *text = (char *)(result + count + COUNT(own) + 1);
    size_t at = 0;
    for (; at < count; at++) {
        result[at] = received[at];
        if (is_hidden(received[at])) {
            result[at] = text;
            text = stpcpy(stpcpy(text, MARK), received[at]) + 1;
        }
    }
    for (size_t i = 0; i < COUNT(own); i++)
        result[at++] = (char *)own[i];
    result[at] = NULL;
    return result;
}

static int complain(const char *text, const char *name, const char *reason, const char *rest)
{
    const char *parts[] = {"shipper: ", text, name, " (", reason, ")", rest, "\n"};
    struct iovec vector[COUNT(parts)];
    for (size_t i = 0; i < COUNT(parts); i++)
        vector[i] = (struct iovec){(void *)parts[i], strlen(parts[i])};
    return writev(2, vector, COUNT(parts)) < 0; /* nobody hears it: no reason to do anything else */
}

static int become_agent(char **command)
{
    if (*command && strcmp(*command, "--") == 0)
        command++;
    if (!*command)
        return USAGE;
    execvp(*command, command);
    int status = errno == ENOENT || errno == ENOTDIR ? NOT_FOUND : NOT_EXECUTABLE;
    complain("cannot run ", *command, strerror(errno), ".");
    return status;
}

int main(int count, char **arguments)
{
    static char *const start[] = {PYTHON, "-I", "-S", SCRIPT};
    char **command = malloc((COUNT(start) + (size_t)count + 1) * sizeof *command);
    char **environment = marked(environ);
    if (command && environment) {
        memcpy(command, start, sizeof start);
        for (int i = 1; i <= count; i++) /* the NULL behind them too */
            command[COUNT(start) + (size_t)i - 1] = arguments[i];
        execve(PYTHON, command, environment);
    }
    int agent = count > 1 && strcmp(arguments[1], "run") == 0;
    complain("cannot start ", PYTHON, strerror(errno),
             agent ? ", so the agent runs without it and nothing is forwarded."
                   : ": copy the whole of " PREFIX " into the image.");
    return agent ? become_agent(arguments + 2) : SOFTWARE;
}
