// SPDX-License-Identifier: MIT OR Apache-2.0
// Functions that several objects have, templates and exceptions. Built once with PART=1 and once with PART=2.
#include <stdexcept>
#include <string>
#include <vector>

template <typename T> T largest(const std::vector<T> &all)
{
    T found = all.at(0);
    for (const T &one : all)
        if (found < one)
            found = one;
    return found;
}

inline int guarded(int n)
{
    try {
        if (n % 3 == 0)
            throw std::runtime_error(std::to_string(n));
        return n;
    } catch (const std::exception &error) {
        return static_cast<int>(std::string(error.what()).size());
    }
}

int other();

#if PART == 2
int other()
{
    int sum = largest(std::vector<int>{4, 8, 2});
    for (int i = 0; i < 30; i++)
        sum += guarded(i);
    return sum;
}
#else
extern "C" int target()
{
    int sum = other() + largest(std::vector<int>{1, 2, 3});
    sum += static_cast<int>(largest(std::vector<std::string>{"a", "ccc", "bb"}).size());
    for (int i = 0; i < 10; i++)
        sum += guarded(i);
    return sum;
}
#endif
