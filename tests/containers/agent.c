/* An agent for images that have not even a shell: its environment to stdout as it came, then becomes its arguments.
 * Without any: a line to each stream, status 7. */

#include <stdio.h>
#include <unistd.h>

extern char **environ;

int main(int count, char **arguments)
{
    for (char **entry = environ; *entry; entry++) {
        fputs(*entry, stdout);
        putchar(0);
    }
    putchar('\n');
    fflush(stdout);
    if (count > 1) {
        execv(arguments[1], arguments + 1);
        return 1;
    }
    puts("a line on stdout");
    fflush(stdout);
    fputs("a line on stderr\n", stderr);
    return 7;
}
