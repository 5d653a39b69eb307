//! What is believed of what a server shows, and from when on.
//!
//! Owns the first check after a sign-in and the rule that a log seen once may only grow. Pure: it is given bytes and
//! returns what they amount to or what is wrong with them. Nothing a server sends is used before it has passed here.

mod alarm;
mod evidence;
mod first_check;
mod growth;

pub(crate) use alarm::Alarm;
pub(crate) use evidence::{Evidence, VaultEvidence};
pub(crate) use first_check::{FirstCheck, Kek};
pub(crate) use growth::{grown, person};
