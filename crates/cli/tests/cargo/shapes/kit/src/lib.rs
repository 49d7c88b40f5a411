//! What lands in the crate that uses it.

/// Of each type that it is used with there is a copy.
pub fn larger<T: PartialOrd>(a: T, b: T) -> T {
    if a > b {
        return a;
    }
    b
}

/// Nobody uses it, so there is none.
pub fn smaller<T: PartialOrd>(a: T, b: T) -> T {
    if a < b {
        return a;
    }
    b
}

/// Not even a copy: its lines are in its callers.
#[inline(always)]
pub fn clamp<T: Into<u64>>(value: T) -> u64 {
    let value = value.into();
    if value > 100 {
        return 100;
    }
    value
}

/// Its code is where it is used, and so are its lines.
#[macro_export]
macro_rules! choose {
    ($condition:expr, $then:expr, $else:expr) => {
        if $condition {
            $then
        } else {
            $else
        }
    };
}
