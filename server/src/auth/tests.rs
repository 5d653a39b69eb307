//! Stories at the doors, told against a real database, with a clock that obeys.

mod changes;
mod entry;
mod links;
mod restored;
mod staying;
mod tokens;
