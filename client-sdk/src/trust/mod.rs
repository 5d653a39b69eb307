//! What is believed of what a server shows, and from when on.
//!
//! Owns the first check after a sign-in, the rule that a log seen once may only grow, and what a file of evidence
//! proves to others. Pure: it is given bytes and returns what they amount to or what is wrong with them. Nothing a
//! server sends is used before it has passed here.

mod alarm;
mod exhibit;
mod first_check;
mod growth;
mod stretch;
mod verdict;

pub(crate) use alarm::Alarm;
pub(crate) use exhibit::{Acknowledged, Evidence, Exhibit, LogExport, VERSION, VaultEvidence};
pub(crate) use first_check::{FirstCheck, Generations, Kek, Passed, Superseded};
pub(crate) use growth::{Stands, grown, person, stands};
pub use verdict::{NotAnExhibit, Proof, SoundLog, Subject, Verdict, judge};
