//! Coming in new from a checkpoint, where one can be trusted.
//!
//! Owns the way in: members and keys from CONTROL entries, the checkpoint, its pages. Pages are verified as they come
//! and put beside; nothing that is kept changes before the last of them has come, and then in one transaction.

use super::driver::{Round, Step, Trouble};
use super::replica::{KeptTrust, Me, Replica, State};
use super::room::Room;
use super::take::{Place, open_item};
use crate::api::Contents;
use crate::error::Misbehaviour;
use crate::keys::vault::{BackLinks, Keyring};
use crate::store::vaults::{Elsewhere, Fresh};
use crate::trust::Alarm;
use selkie_protocol::ErrorCode;
use selkie_protocol::account_log::AccountLog;
use selkie_protocol::id::{UserId, VaultId};
use selkie_protocol::log::{
    Arriving, Body, Bootstrap, Control, Entry, Head, PAGE_SIZE, PageItem, Refusal, Trust, VaultLog,
};
use selkie_protocol::vault::{Beginning, CheckpointItems, PlacedEntry};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// CONTROL entries are a few hundred bytes each.
const MOST_CONTROL_BYTES: usize = 64 << 20;

type People = BTreeMap<UserId, AccountLog>;

/// A way in that is open.
struct WayIn {
    /// At which records are put beside.
    revision: u64,
    arriving: Arriving,
    links: BackLinks,
    keys: Keyring,
    /// Changes of other devices that were taken on the way, by collection; nameless where they could not be opened.
    taken: BTreeMap<String, usize>,
    /// What is live and is not fetched now.
    elsewhere: Vec<Elsewhere>,
}

/// The same, once every page has come.
struct WayThrough {
    log: VaultLog,
    links: BackLinks,
    keys: Keyring,
    taken: BTreeMap<String, usize>,
    elsewhere: Vec<Elsewhere>,
}

impl Round<'_> {
    /// Begins with the newest checkpoint, if it is further than this device and can be trusted. Its author's word alone
    /// does, and is shown, only where the server has nothing else.
    pub(super) async fn begin_with_checkpoint(&mut self, nothing_else: bool) -> Step<bool> {
        let replica = self.replica()?;
        if replica.head().n > 1 {
            // What was here once is here again.
            self.contents = Contents::Now;
        }
        let replica = self.replica()?;
        let after = replica.head().n + 1;
        self.begin_after(after, nothing_else, |_| Ok(())).await
    }

    /// The same for whoever needs a checkpoint that stands after a position.
    /// `carry` says what of the old state holds for the new one.
    pub(super) async fn begin_after(
        &mut self,
        after: u64,
        nothing_else: bool,
        carry: impl FnOnce(&mut Replica) -> Result<(), Refusal> + Send + 'static,
    ) -> Step<bool> {
        let (context, vault) = (self.account.context(), self.vault);
        let answer = self.account.call(|bearer| async move { context.api.beginning(&bearer, &vault).await });
        let beginning = match answer.await {
            Ok(beginning) => Arc::new(beginning),
            Err(error) if error.code() == Some(ErrorCode::NotFound) => return Ok(false),
            Err(error) => return Err(error.into()),
        };
        let head = self.signed(&beginning.head).await?;
        if head.head.n < beginning.n || beginning.n <= after {
            return Ok(false);
        }
        let Some(controls) = self.controls_before(beginning.n).await? else { return Ok(false) };
        let way = self.open_way(controls, beginning.clone()).await?;
        let trust = way.arriving.trust();
        if trust == Trust::Unconfirmed && !nothing_else {
            return Ok(false);
        }
        let WayThrough { log, links, keys, taken, elsewhere } = self.fetch_pages(way, &beginning).await?;
        let mut state = State::new(true);
        state.links = links;
        state.trust = KeptTrust::from(trust);
        state.incarnation = Some(head.incarnation);
        let mut replica = Replica::new(log, state);
        replica.keys = keys;
        carry(&mut replica).map_err(|refusal| Alarm::refused(beginning.n, &refusal))?;
        self.replace_by(replica, Fresh { elsewhere, ..Fresh::default() }).await?;
        for (name, many) in taken {
            self.report.pulled += many;
            if !name.is_empty() {
                self.report.of_collection(&name).pulled += many;
            }
        }
        Ok(true)
    }

    /// `None` if there are more than this device takes at once: the whole log comes page by page.
    async fn controls_before(&self, n: u64) -> Step<Option<Vec<PlacedEntry>>> {
        let (context, vault) = (self.account.context(), self.vault);
        let (mut controls, mut bytes, mut after): (Vec<PlacedEntry>, usize, u64) = (Vec::new(), 0, 0);
        loop {
            let answer = self.account.call(|bearer| async move { context.api.controls(&bearer, &vault, after).await });
            let page = answer.await?;
            let places: Vec<u64> = [after].into_iter().chain(page.entries.iter().map(|placed| placed.n)).collect();
            if !places.is_sorted_by(|one, next| one < next) {
                return Err(strange("control entries in their order").into());
            }
            bytes += page.entries.iter().map(|placed| placed.entry.len()).sum::<usize>();
            if bytes > MOST_CONTROL_BYTES {
                return Ok(None);
            }
            controls.extend(page.entries.into_iter().filter(|placed| placed.n < n));
            match places.last() {
                Some(last) if page.more && *last > after && *last < n => after = *last,
                _ => return Ok(Some(controls)),
            }
        }
    }

    /// Replays members and keys, and holds the checkpoint against them; fetches account logs on the way.
    async fn open_way(&mut self, controls: Vec<PlacedEntry>, beginning: Arc<Beginning>) -> Step<WayIn> {
        let (context, vault, me) = (self.account.context(), self.vault, self.me);
        let wraps = self.account.call(|bearer| async move { context.api.wraps(&bearer, &vault).await }).await?.wraps;
        let revision = self.revision;
        let master = self.account.kept().secrets.master_key.clone();
        let (controls, mut asked) = (Arc::new(controls), BTreeSet::new());
        loop {
            let (crowd, controls, checkpoint) = (self.room.crowd(), controls.clone(), beginning.clone());
            let (wraps, master) = (wraps.clone(), master.clone());
            let open = move || {
                let (bootstrap, links) = replay(&vault, &controls, &crowd.logs)?;
                let mut keys = Keyring::default();
                if let Some(master) = master {
                    keys.open_wraps(vault, &me.user, &master, &wraps, bootstrap.core().governance(), &links);
                }
                let arriving = arrive(bootstrap, &me.user, &checkpoint, &crowd.logs)?;
                Ok(WayIn { revision, arriving, links, keys, taken: BTreeMap::new(), elsewhere: Vec::new() })
            };
            match context.edges.apart(open).await? {
                Ok(way) => return Ok(way),
                Err(Refusal::AccountLogNeeded { user, index }) if asked.insert((user, index)) => {
                    self.learn_person(user).await?;
                }
                Err(refusal) => return Err(Alarm::refused(beginning.n, &refusal).into()),
            }
        }
    }

    async fn fetch_pages(&mut self, mut way: WayIn, beginning: &Beginning) -> Step<WayThrough> {
        let (context, vault, n, me) = (self.account.context(), self.vault, beginning.n, self.me);
        let contents = self.contents;
        let refused = |refusal: Refusal| Trouble::from(Alarm::refused(n, &refusal));
        let (hashes, rest) = beginning.page_hashes.as_chunks::<32>();
        if !rest.is_empty() {
            return Err(strange("hashes of pages").into());
        }
        way.arriving.page_hashes(hashes).map_err(refused)?;
        way.revision = self.stage_anew().await?;
        for page in 0..hashes.len() {
            self.room.pulse.still_to_read(((hashes.len() - page) * PAGE_SIZE) as u64);
            let mut whole = CheckpointItems { items: Vec::new(), payloads: Vec::new(), more: true };
            while whole.more {
                let from = whole.items.len();
                let answer = self.account.call(|bearer| async move {
                    context.api.checkpoint_page(&bearer, &vault, n, page, from, contents).await
                });
                let part = answer.await?;
                let payloads = if contents == Contents::Later { 0 } else { part.items.len() };
                let fits = part.payloads.len() == payloads && from + part.items.len() <= PAGE_SIZE;
                if !fits || (part.items.is_empty() && part.more) {
                    return Err(strange("a page of at most 1024 changes, each with its payload").into());
                }
                whole.items.extend(part.items);
                whole.payloads.extend(part.payloads);
                whole.more = part.more;
            }
            let room = self.room.clone();
            way = context.edges.apart(move || take_page(way, &room, &vault, &me, n, &whole, contents)).await??;
        }
        let WayIn { arriving, links, keys, taken, elsewhere, .. } = way;
        let log = context.edges.apart(move || arriving.finish()).await?.map_err(refused)?;
        Ok(WayThrough { log, links, keys, taken, elsewhere })
    }

    /// Begins to put records beside. What is kept stays as it is, at another revision.
    pub(super) async fn stage_anew(&mut self) -> Step<u64> {
        let (room, vault, revision) = (self.room.clone(), self.vault, self.revision);
        let begin = move || room.store.stage_anew(&vault, revision);
        self.revision = self.account.context().edges.apart(begin).await??.ok_or(Trouble::Moved)?;
        if let Some(replica) = &mut self.replica {
            replica.revision = self.revision;
        }
        Ok(self.revision)
    }

    /// Puts another log in the place of the one that is kept, with the records that were put beside. `what_else` says
    /// what becomes of writes.
    pub(super) async fn replace_by(&mut self, replica: Replica, what_else: Fresh) -> Step<()> {
        let (room, vault, revision) = (self.room.clone(), self.vault, self.revision);
        self.replica = None;
        let replace = move || {
            let Fresh { again, sent, settlements, elsewhere, .. } = what_else;
            let fresh = Fresh { again, sent, settlements, elsewhere, ..replica.fresh(&room.at_rest) };
            let replaced = room.store.replace(&vault, revision, &fresh);
            room.ring(&vault);
            replaced
        };
        match self.account.context().edges.apart(replace).await?? {
            Some(_) => self.load().await,
            None => Err(Trouble::Moved),
        }
    }
}

fn strange(expected: &str) -> Alarm {
    Alarm::new(Misbehaviour::Contradiction, expected, "something else")
}

fn replay(vault: &VaultId, controls: &[PlacedEntry], people: &People) -> Result<(Bootstrap, BackLinks), Refusal> {
    let (first, rest) = controls.split_first().ok_or(Refusal::NotCreate)?;
    let (mut bootstrap, _) = Bootstrap::create(&Entry::parse(&first.entry)?, people)?;
    if bootstrap.core().vault() != *vault {
        return Err(Refusal::OtherVault);
    }
    let mut links = BackLinks::new();
    for placed in rest {
        let entry = Entry::parse(&placed.entry)?;
        bootstrap.control(&entry, people)?;
        if let Body::Control(Control::RemoveRotate(rotate)) = &entry.body {
            links.insert(rotate.epoch, rotate.back.into());
        }
    }
    Ok((bootstrap, links))
}

fn arrive(bootstrap: Bootstrap, me: &UserId, beginning: &Beginning, people: &People) -> Result<Arriving, Refusal> {
    let entry = Entry::parse(&beginning.entry)?;
    // Where it stands is the server's word until here; what it describes is its author's.
    if let Body::Checkpoint(checkpoint) = &entry.body
        && checkpoint.at.n.checked_add(1) != Some(beginning.n)
    {
        return Err(Refusal::FalseCheckpoint("it stands elsewhere than it says"));
    }
    let evidence = beginning.evidence.iter().map(|entry| Entry::parse(entry)).collect::<Result<Vec<_>, _>>()?;
    let (hashes, _) = beginning.entry_hashes.as_chunks::<32>();
    let before = Head { n: beginning.before_n, h: *beginning.before_h };
    bootstrap.checkpoint(&entry, me, &evidence, before, hashes, people)
}

/// Verifies a page, opens what is on it and puts it beside.
fn take_page(
    mut way: WayIn,
    room: &Room,
    vault: &VaultId,
    me: &Me,
    n: u64,
    page: &CheckpointItems,
    contents: Contents,
) -> Step<WayIn> {
    let refused = |refusal: Refusal| Trouble::from(Alarm::refused(n, &refusal));
    let items = page.items.iter().map(|item| PageItem::parse(item)).collect::<Result<Vec<_>, _>>();
    let items = items.map_err(|malformed| refused(malformed.into()))?;
    way.arriving.page(&items).map_err(refused)?;
    if contents == Contents::Later {
        let heads = items.iter().filter(|item| item.head);
        way.elsewhere.extend(heads.map(|item| {
            let (record, change) = (item.change.record, item.leaf(vault).change);
            Elsewhere { record, change, was_here: false }
        }));
        return Ok(way);
    }
    let (mut versions, mut aside) = (Vec::new(), Vec::new());
    for (item, payload) in items.iter().zip(&page.payloads) {
        let change = item.leaf(vault).change;
        if !item.change.is_payload(payload) {
            return Err(refused(Refusal::Withheld(vec![change])));
        }
        let place = Place { change, n: n - 1, unix_ms: 0 };
        let name = match open_item(vault, &way.keys, &room.at_rest, item, payload, place) {
            Ok((version, body)) => {
                versions.push(version);
                body.collection
            }
            Err(unread) => {
                aside.push(*unread);
                String::new()
            }
        };
        if item.device != me.device {
            *way.taken.entry(name).or_default() += 1;
        }
    }
    match room.store.stage(vault, way.revision, &versions, &aside)? {
        true => Ok(way),
        false => Err(Trouble::Moved),
    }
}
