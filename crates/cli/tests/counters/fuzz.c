// SPDX-License-Identifier: MIT OR Apache-2.0
// Nobody guesses six bytes; with counters each of them is found alone.
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size > 5 && data[0] == 'r')
        if (data[1] == 'k')
            if (data[2] == 'c')
                if (data[3] == 'o')
                    if (data[4] == 'v')
                        if (data[5] == '!')
                            abort();
    return 0;
}
