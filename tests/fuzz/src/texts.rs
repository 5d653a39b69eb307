//! Short texts that name something.

use crate::offline;
use futures_util::FutureExt as _;
use selkie_client::{Cursor, LinkInvitation, Order, Value, Vault};
use selkie_protocol::Face;
use selkie_protocol::id::{
    ChangeId, DeviceId, Incarnation, InviteId, LinkChannel, LoginId, RecordId, SessionId, UserId, VaultId,
};
use std::fmt::Display;
use std::str::FromStr;
use std::sync::LazyLock;

pub(crate) fn run(bytes: &[u8]) {
    static VAULT: LazyLock<Vault> = LazyLock::new(offline::vault);
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    for id in [
        id::<UserId>,
        id::<DeviceId>,
        id::<SessionId>,
        id::<LoginId>,
        id::<LinkChannel>,
        id::<Incarnation>,
        id::<VaultId>,
        id::<RecordId>,
        id::<ChangeId>,
        id::<InviteId>,
    ] {
        id(text);
    }
    if let Some(face) = Face::from_content_type(text) {
        assert!(Face::from_content_type(face.content_type()) == Some(face));
    }
    if let Ok(invitation) = LinkInvitation::parse(text) {
        let again = LinkInvitation::parse(invitation.to_uri().as_str()).expect("what is shown can be scanned");
        assert!(again == invitation);
    }
    let query = VAULT.collection::<Value>("notes").query().order_by("title", Order::Ascending);
    if let Ok(query) = query.after(&Cursor::from_text(text)) {
        let page = query.page().now_or_never().expect("nothing waits here").expect("an empty collection has a page");
        assert!(page.found.is_empty());
    }
}

fn id<T: FromStr + Display>(text: &str) {
    if let Ok(id) = text.parse::<T>() {
        assert_eq!(id.to_string(), text, "one text for one id");
    }
}
