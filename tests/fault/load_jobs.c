/* The jobs: what is submitted, what it must cost, and how it must end. Prices are computed here a second time, from the rule in the documentation. */
#include "load.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

const struct load_kind load_kinds[] = {
        {"puz19:text_analysis", NULL, NULL, 20, LOAD_DONE},
        {"puz19:numeric_analysis", NULL, NULL, 20, LOAD_DONE},
        {"fault:keeper", "fault_keeper", "done", 10, LOAD_DONE},
        {"fault:keeper", "fault_keeper", "lost", 8, LOAD_DONE},
        {"fault:keeper", "fault_keeper", "error", 8, LOAD_DONE},
        {"fault:keeper", "fault_keeper", "never", 6, LOAD_DONE},
        {"fault:keeper", "fault_keeper", "accept", 6, LOAD_DONE},
        {"fault:keeper", "fault_keeper", "late", 6, LOAD_DONE},
        {"fault:keeper", "fault_keeper", "twice", 8, LOAD_DONE},
        {"fault:keeper", "fault_keeper", "withheld", 1, LOAD_WAITS},
        {"fault:keeper", "fault_keeper", "failed", 4, LOAD_FAILED},
        {"fault:keeper", "fault_keeper", "failed@keeper", 6, LOAD_DONE}, /* its stand-in does it */
        {"fault:again", "fault_again", "done", 6, LOAD_DONE},
        {"fault:again", "fault_again", "lost once", 6, LOAD_DONE},
        {"fault:mute", "fault_mute", "done", 4, LOAD_EITHER},
        {"fault:mute", "fault_mute", "lost", 1, LOAD_EITHER},
        {"fault:two", "fault_keeper", "lost", 6, LOAD_DONE},
        {"fault:desk", "fault_desk", "done", 6, LOAD_DONE}, /* desk.h */
        {"fault:desk", "fault_desk", "lost", 3, LOAD_DONE},
        {"fault:desk", "fault_desk", "failed", 1, LOAD_FAILED},
        {"fault:desk", "fault_desk", "accept", 6, LOAD_DONE},
        {"fault:desk", "fault_desk", "die", 3, LOAD_DONE},
        {"fault:desk", "fault_desk", "zombie", 4, LOAD_DONE},
        {"fault:desk", "fault_desk", "first", 3, LOAD_DONE},
};
const size_t load_n_kinds = ARRAY_SIZE(load_kinds);

static size_t choose(struct fault_random *r)
{
        int64_t all = 0, dice;

        for (size_t i = 0; i < load_n_kinds; i++)
                all += load_kinds[i].weight;
        dice = fault_random_between(r, 0, all - 1);
        for (size_t i = 0; i < load_n_kinds; i++) {
                dice -= load_kinds[i].weight;
                if (dice < 0)
                        return i;
        }
        return 0;
}

/* (base + per_unit * size) * priority * size factor, rounded half up: docs of pricing. All in hundredths. */
static int64_t price(const struct load_job *j)
{
        static const struct {
                const char *type;
                int64_t base, per_unit;
        } rules[] = {{"puz19:text_analysis", 2000, 5}, {"puz19:numeric_analysis", 2500, 2}, {"fault:", 1000, 1}};
        static const struct {
                const char *name;
                int64_t tenths;
        } priorities[] = {{"high", 12}, {"normal", 10}, {"low", 9}};
        int64_t size = (int64_t)strlen(j->payload), exact = 0;

        for (size_t i = 0; i < ARRAY_SIZE(rules); i++)
                if (strncmp(load_kinds[j->kind].type, rules[i].type, strlen(rules[i].type)) == 0)
                        exact = rules[i].base + rules[i].per_unit * size;
        for (size_t i = 0; i < ARRAY_SIZE(priorities); i++)
                if (strcmp(j->priority, priorities[i].name) == 0)
                        exact *= priorities[i].tenths;
        return (exact * 95 + 500) / 1000; /* payloads here are below 200 characters */
}

void load_expect(struct load_job *j)
{
        const struct load_kind *kind = &load_kinds[j->kind];
        char id[UUID_TEXT_SIZE];
        int64_t n = 0;

        j->amount = price(j);
        uuid_format(&j->id, id);
        if (strcmp(kind->type, "fault:two") == 0)
                snprintf(j->result, sizeof(j->result), "{\"length\":__,\"word_count\":3,\"preview\":\"done by %%\"}");
        else if (kind->mode)
                snprintf(j->result, sizeof(j->result), "{\"text\":\"done by %%\",\"job\":\"%s\"}", id);
        else if (strcmp(kind->type, "puz19:text_analysis") == 0)
                snprintf(j->result, sizeof(j->result), "{\"length\":%zu,\"word_count\":2,\"preview\":\"job %s\"}", strlen("job ") + strlen(j->key),
                        j->key);
        else if (sscanf(j->payload, "{\"numbers\":[%" SCNd64, &n) == 1)
                snprintf(j->result, sizeof(j->result), "{\"count\":2,\"sum\":%" PRId64 ",\"avg\":%" PRId64 "%s}", 2 * n + 1, n, ".5");
}

void load_make(struct load_job *j, const char *run, size_t n, size_t kind, struct fault_random *r)
{
        static const char *const priorities[] = {"high", "normal", "low"};
        const struct load_kind *k;

        *j = (struct load_job){.kind = (unsigned)(kind < load_n_kinds ? kind : choose(r))};
        k = &load_kinds[j->kind];
        snprintf(j->key, sizeof(j->key), "%s-%zu", run, n);
        if (k->mode)
                snprintf(
                        j->payload, sizeof(j->payload), "{\"mode\":\"%s\",\"ms\":%d,\"n\":%zu}", k->mode, (int)fault_random_between(r, 100, 1500), n);
        else if (strcmp(k->type, "puz19:text_analysis") == 0)
                snprintf(j->payload, sizeof(j->payload), "{\"text\":\"job %s\"}", j->key);
        else
                snprintf(j->payload, sizeof(j->payload), "{\"numbers\":[%zu,%zu]}", n, n + 1);
        j->priority = priorities[fault_random_between(r, 0, 2)];
        j->by_bus = fault_random_chance(r, 50);
        j->pays = fault_random_chance(r, 94) || kind < load_n_kinds; /* the first of its kind is there to be done */
        j->marks = fault_random_chance(r, 70);
        load_expect(j);
}
