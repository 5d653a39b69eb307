//! The rules of the house in a form that can be tested.
//!
//! Owns the reading of `deny.toml`, of licences, of what cargo would link, and of the source text. Knows nothing about
//! what our code does. The rules themselves are the tests beside it, one sentence each.

pub mod licence;
pub mod policy;
pub mod source;
pub mod tree;

/// The root of the workspace.
pub fn root() -> &'static std::path::Path {
    std::path::Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2).expect("this crate lies two folders deep")
}
