/* aethelos: the command. One row a command; each command is one function in a file of its own theme. The launcher in the root of the checkout
 * installs, builds, and then runs this. */
#include "cli.h"

#include "base/util.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct command {
        const char *name, *args, *help;
        int (*function)(int argc, char **argv);
};

static const struct command commands[] = {
        {"run", "FILE|-", "start the stack, run one job from beginning to end, show all that came of it", cmd_run},
        {"up", "", "start the stack in the background", cmd_up},
        {"down", "", "end it", cmd_down},
        {"status", "", "addresses and processes", cmd_status},
        {"doctor", "", "look for what keeps a stack from running, and say what to do", cmd_doctor},
        {"overview", "", "jobs, revenue, payouts, what stands: the figures of this moment", cmd_overview},
        {"submit", "FILE|-", "submit a job", cmd_submit},
        {"pay", "JOB --reference T | --file F", "confirm the payment of a job, or of many", cmd_pay},
        {"show", "JOB", "a job with price, ledger entries and payout", cmd_show},
        {"explain", "ID", "why a job ended, or for whom it waits and what happens next", cmd_explain},
        {"events", "[ID] [--follow]", "what happened", cmd_events},
        {"flows", "[add FILE|-]", "job types, their prices and steps; registering one", cmd_flows},
        {"operators", "[add | watch | worker ...]", "who performs the steps; registering one; who works on what; the bus user of workers",
                cmd_operators},
        {"runs", "[resolve RUN ...]", "what is open at operators; say what came of a run that nobody else can tell of", cmd_runs},
        {"tasks", "[run KIND [ENTITY]]", "system tasks: what the stack does for itself, and having it done now", cmd_tasks},
        {"offers", "", "what can be bought as it is", cmd_offers},
        {"payouts", "[mark ID --reference TEXT]", "what is owed to the owner; mark one as transferred", cmd_payouts},
        {"refunds", "[confirm JOB --reference TEXT]", "what must go back to payers; record that it went", cmd_refunds},
        {"issues", "[--kind KIND] [--all]", "what stands too long or is broken, and what is done about it", cmd_issues},
        {"quarantine", "", "what could not be used and was put aside", cmd_quarantine},
        {"repair", "[ISSUE | --kind KIND]", "have issues handled now", cmd_repair},
        {"redrive", "JOB | --reason R ...", "have failed jobs run again", cmd_redrive},
        {"refund", "JOB --reason TEXT", "give the payment of a failed job back", cmd_refund},
        {"close", "JOB --reason TEXT", "end an unpaid job", cmd_close},
        {"rules", "[set KIND STEP | haste ...]", "how long a chain may stand, and what is done then", cmd_rules},
        {"webhooks", "[add URL | ...]", "who is told of events over HTTP, and what became of it", cmd_webhooks},
        {"backup", "DIR", "a consistent copy of everything, while the stack works", cmd_backup},
        {"restore", "DIR", "make a new stack's database from a backup", cmd_restore},
        {"migrate", "[--check]", "bring the database to this version, or say what that would apply", cmd_migrate},
        {"secrets", "DIR", "make the secrets of a stack that containers or systemd start", cmd_secrets},
        {"bench", "[--seconds N]", "measure this machine, on a stack of its own", cmd_bench},
};

int cmd_bench(int argc, char **argv)
{
        char path[4096];
        ssize_t n = readlink("/proc/self/exe", path, sizeof(path) - sizeof("-bench"));

        (void)argc;
        if (n > 0) {
                strcpy(path + n, "-bench");
                argv[0] = path;
                execv(path, argv);
        }
        fprintf(stderr, "aethelos: %s: %s. Build it: ./aethelos bench does.\n", n > 0 ? path : "/proc/self/exe", strerror(errno));
        return 1;
}

static int usage(FILE *out)
{
        fprintf(out, "usage: aethelos COMMAND ...\n\n");
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                fprintf(out, "  %-10s %-30s %s\n", commands[i].name, commands[i].args, commands[i].help);
        fprintf(out, "  %-10s %-30s %s\n", "fault", "[--seed N] [--minutes M]", "hurt a stack of its own while it works, and audit it");
        fprintf(out, "  %-10s %-30s %s\n", "crash", "[--rounds N]", "kill every service at each of its crash points, and audit it");
        fprintf(out, "  %-10s %-30s %s\n", "test", "", "build with sanitizers and run all tests");
        fprintf(out, "\nEvery command has --help, and all but fault, crash and test --json. With several stacks on a machine, --state DIR says which "
                     "one is\n"
                     "meant (with runs AETHELOS_STATE=DIR before the command), or AETHELOS_STATE for all that follow. Exit status: 0 done, 1 failed, "
                     "2 used wrongly.\n");
        return out == stdout ? 0 : 2;
}

int main(int argc, char *argv[])
{
        if (argc < 2)
                return usage(stderr);
        if (strcmp(argv[1], "help") == 0 && argc == 3)
                return main(3, (char *[]){argv[0], argv[2], "--help", NULL});
        if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0 || strcmp(argv[1], "help") == 0)
                return usage(stdout);
        if (strcmp(argv[1], "--version") == 0) {
                printf("aethelos %s\n", AETHELOS_VERSION);
                return 0;
        }
        for (size_t i = 0; i < ARRAY_SIZE(commands); i++)
                if (strcmp(commands[i].name, argv[1]) == 0)
                        return commands[i].function(argc - 1, argv + 1);
        fprintf(stderr, "aethelos: there is no command %s\n", argv[1]);
        return usage(stderr);
}
