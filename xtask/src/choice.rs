// SPDX-License-Identifier: MIT OR Apache-2.0
//! What a command works on: all of a list, or those of it that the user names.

/// What a command's list has.
pub(crate) trait Listed: Sized + 'static {
    /// All there are.
    const ALL: &'static [Self];
    /// What they are, as a user says it, in the plural.
    const WHAT: &'static str;

    /// What a user calls it.
    fn name(&self) -> &'static str;
}

/// The names of all.
pub(crate) fn names<T: Listed>() -> Vec<&'static str> {
    T::ALL.iter().map(T::name).collect()
}

/// The one of this name, for arguments.
pub(crate) fn known<T: Listed>(name: &str) -> Result<&'static T, String> {
    let found = T::ALL.iter().find(|one| one.name() == name);
    found.ok_or_else(|| format!("the {} are {}", T::WHAT, names::<T>().join(", ")))
}

/// Those that are named; all of them if none is.
pub(crate) fn wanted<T: Listed>(named: &[&'static T]) -> Vec<&'static T> {
    if named.is_empty() {
        T::ALL.iter().collect()
    } else {
        named.to_vec()
    }
}
