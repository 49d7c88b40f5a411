// SPDX-License-Identifier: MIT OR Apache-2.0
// Exceptions, coroutines, and what else only C++ has in its control flow.
#include <coroutine>
#include <cstdio>
#include <exception>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <variant>
#include <vector>

namespace {

struct Noisy {
	std::string name;
	explicit Noisy(std::string n) : name(std::move(n)) { std::printf("+%s\n", name.c_str()); }
	~Noisy() noexcept(false)
	{
		std::printf("-%s\n", name.c_str());
		if (name == "throws" && !std::uncaught_exceptions())
			throw std::logic_error("from a destructor");
	}
};

Noisy global("global");

template <typename T> struct Generator {
	struct promise_type {
		std::optional<T> value;
		std::exception_ptr error;
		Generator get_return_object() { return Generator(std::coroutine_handle<promise_type>::from_promise(*this)); }
		std::suspend_always initial_suspend() { return {}; }
		std::suspend_always final_suspend() noexcept { return {}; }
		std::suspend_always yield_value(T v)
		{
			value = std::move(v);
			return {};
		}
		void return_void() {}
		void unhandled_exception() { error = std::current_exception(); }
	};
	std::coroutine_handle<promise_type> handle;
	explicit Generator(std::coroutine_handle<promise_type> h) : handle(h) {}
	Generator(Generator &&other) : handle(std::exchange(other.handle, nullptr)) {}
	~Generator()
	{
		if (handle)
			handle.destroy();
	}
	std::optional<T> next()
	{
		handle.resume();
		if (handle.promise().error)
			std::rethrow_exception(handle.promise().error);
		return std::exchange(handle.promise().value, std::nullopt);
	}
};

Generator<int> collatz(int from)
{
	Noisy here("coroutine");
	while (from != 1) {
		if (from > 1000)
			throw std::out_of_range("too far");
		co_yield from;
		from = from % 2 ? 3 * from + 1 : from / 2;
	}
}

Generator<std::string> words(std::string text)
{
	std::string word;
	for (char c : text) {
		if (c != ' ') {
			word += c;
			continue;
		}
		co_yield word;
		word.clear();
	}
	co_yield word;
}

struct Shape {
	virtual ~Shape() = default;
	virtual double area() const = 0;
};
struct Square : Shape {
	double side;
	explicit Square(double s) : side(s) {}
	double area() const override { return side * side; }
};
struct Circle : virtual Shape {
	double radius;
	explicit Circle(double r) : radius(r)
	{
		if (r < 0)
			throw std::invalid_argument("radius");
	}
	double area() const override { return 3.0 * radius * radius; }
};

int depth(int n)
{
	Noisy here("depth " + std::to_string(n));
	try {
		if (n == 0)
			throw n;
		if (n == 3)
			throw std::string("three");
		return depth(n - 1) + 1;
	} catch (const std::string &text) {
		return static_cast<int>(text.size());
	} catch (int found) {
		if (n % 2)
			throw;
		return found + 10;
	}
}

int never() noexcept
{
	static int calls = [] {
		std::puts("once");
		return 40;
	}();
	return ++calls;
}

template <typename... T> int tell(T... values) { return (0 + ... + static_cast<int>(sizeof(values))); }

} // namespace

int main(int argc, char **)
{
	for (int from : {6, 27, 7}) {
		try {
			auto numbers = collatz(from);
			while (auto number = numbers.next())
				std::printf("%d ", *number);
			std::puts("done");
		} catch (const std::exception &e) {
			std::printf("caught %s\n", e.what());
		}
	}
	auto text = words("a coroutine of words");
	while (auto word = text.next())
		if (!word->empty())
			std::printf("[%s]", word->c_str());
	std::puts("");
	for (int n = 0; n < 6; n++) {
		try {
			std::printf("%d\n", depth(n));
		} catch (...) {
			std::puts("other");
		}
	}
	try {
		Noisy throws("throws");
		std::printf("%d\n", never() + never() + argc);
	} catch (const std::logic_error &e) {
		std::puts(e.what());
	}
	std::vector<std::unique_ptr<Shape>> shapes;
	for (double size : {1.0, 2.0, -1.0, 3.0}) {
		try {
			shapes.push_back(std::make_unique<Square>(size));
			shapes.push_back(std::make_unique<Circle>(size));
		} catch (const std::invalid_argument &) {
			std::puts("no circle");
		}
	}
	double area = 0;
	for (const auto &shape : shapes) {
		area += shape->area();
		if (dynamic_cast<const Square *>(shape.get()))
			area += 0.5;
	}
	std::printf("%.2f %d\n", area, tell(1, 2.0, 'c', "d"));
	std::map<std::string, std::function<int(int)>> table{{"double", [](int x) { return 2 * x; }},
							     {"add", [argc](int x) { return x + argc; }}};
	for (const auto &[name, call] : table)
		std::printf("%s %d\n", name.c_str(), call(20));
	std::variant<int, std::string> either = "text";
	for (int turn = 0; turn < 2; turn++) {
		std::visit(
			[](const auto &value) {
				if constexpr (std::is_same_v<std::decay_t<decltype(value)>, int>)
					std::printf("int %d\n", value);
				else
					std::printf("string %s\n", value.c_str());
			},
			either);
		either = 7;
	}
	return 0;
}
