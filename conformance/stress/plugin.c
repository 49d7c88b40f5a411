/* SPDX-License-Identifier: MIT OR Apache-2.0 */
/* Markers in a module that comes and goes. */
#include <stdint.h>

extern const char subject_markers[], subject_second_marker[], subject_pc_marker[];

void plugin_run(unsigned marker)
{
	((void (*)(void))(subject_markers + marker * (subject_second_marker - subject_markers)))();
}

uint64_t plugin_pc(void)
{
	return (uint64_t)subject_pc_marker;
}
