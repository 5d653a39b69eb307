//! DECIDES what a push means: order, idempotency, conflicts; and what a reader may be shown.
//!
//! | module | what it owns |
//! |---|---|
//! | [`HeadKey`] | the server's word about its logs |

mod head_key;

pub use head_key::HeadKey;
