/* Crash points: named places before and after every commit, publish, ack and outside call, at which a test kills the process. Compiled in only with
 * -DAETHELOS_CRASH_POINTS (preset asan-ubsan and the crash runner's build); otherwise they are nothing.
 * AETHELOS_CRASH_AT="<name>:<n>" kills the process with SIGKILL when the point is passed for the n-th time.
 * AETHELOS_FREEZE_AT="<name>:<n>" stops it there with SIGSTOP instead, until it is sent SIGCONT.
 * AETHELOS_CRASH_LOG=<file> appends the name of every point when first passed, so that a runner learns which points a service has. */
#ifndef AETHELOS_BASE_CRASHPOINT_H
#define AETHELOS_BASE_CRASHPOINT_H

#ifdef AETHELOS_CRASH_POINTS
void crash_point(const char *name);
#define CRASH_POINT(name) crash_point(name)
#else
#define CRASH_POINT(name) ((void)0)
#endif

#endif
