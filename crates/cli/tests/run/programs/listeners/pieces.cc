// SPDX-License-Identifier: MIT OR Apache-2.0
// What tests run: instrumented, as the frameworks are not.
static volatile int sum;
void one() { sum++; }
void two() { sum++; }
void set_up() { sum++; }
