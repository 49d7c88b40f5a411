// SPDX-License-Identifier: MIT OR Apache-2.0
// Ways out of C++ functions: exceptions, caught near and far.
#include <cstdio>
#include <memory>
#include <stdexcept>
#include <string>
#include <vector>

volatile int sink;
volatile size_t huge = (size_t)1 << 60;

struct Guard {
	int n;
	explicit Guard(int n) : n(n) { sink = sink + n; }
	~Guard()
	{
		sink = sink - n;
	}
};

__attribute__((noinline)) int risky(int n)
{
	if (n > 2)
		throw std::runtime_error("no");
	return n;
}

__attribute__((noinline)) int through(int n)
{
	Guard guard(n);
	int got = risky(n);
	sink = sink + got;
	return got + 1;
}

__attribute__((noinline)) int plain(int n)
{
	int got = risky(n);
	sink = sink + 7;
	return got;
}

struct Shape {
	virtual ~Shape() = default;
	virtual int area() const = 0;
};

struct Square : Shape {
	int side;
	explicit Square(int side) : side(side) {}
	int area() const override
	{
		if (side < 0)
			throw std::logic_error("side");
		return side * side;
	}
};

template <typename T>
__attribute__((noinline)) T twice(T value)
{
	return value + value;
}

__attribute__((noinline)) int total(const std::vector<std::unique_ptr<Shape>> &all)
{
	int sum = 0;
	for (const auto &shape : all) {
		sum += shape->area();
		sink = sum;
	}
	sink = sum + 1;
	return sum;
}

__attribute__((noinline)) int at(const std::vector<int> &all, size_t n)
{
	int value = all.at(n);
	sink = value;
	return value;
}

__attribute__((noinline)) void nested(int n)
{
	try {
		try {
			plain(n);
			sink = 1;
		} catch (const std::logic_error &) {
			sink = 2;
		}
		sink = 3;
	} catch (const std::runtime_error &error) {
		sink = error.what()[0];
		throw;
	}
	sink = 4;
}

int main()
{
	through(1);
	try {
		through(5);
		sink = 5;
	} catch (const std::exception &error) {
		puts(error.what());
	}
	try {
		nested(3);
		sink = 6;
	} catch (...) {
		sink = 7;
	}
	nested(1);
	std::vector<std::unique_ptr<Shape>> all;
	all.push_back(std::make_unique<Square>(3));
	total(all);
	all.push_back(std::make_unique<Square>(-1));
	try {
		total(all);
		sink = 8;
	} catch (...) {
		puts("bad side");
	}
	std::vector<int> few{1, 2};
	at(few, 1);
	try {
		at(few, 9);
		sink = 9;
	} catch (const std::out_of_range &) {
		puts("out of range");
	}
	printf("%d %s\n", twice(2), twice(std::string("a")).c_str());
	std::string text;
	for (int i = 0; i < 3; i++)
		text += "x";
	try {
		text.resize(huge);
		sink = 10;
	} catch (const std::bad_alloc &) {
		sink = 11;
	}
	if (text.size() == 17)
		puts("no");
	return 0;
}
