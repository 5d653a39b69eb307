//! The commands, a module a noun.
//!
//! Owns which command runs what, and the two things several of them do: ask for a second factor when it turns out to
//! be needed, and see an emergency sheet to safety.

mod account;
mod archive;
mod completion;
mod devices;
mod doors;
mod link;
mod moving;
mod password;
mod query;
mod records;
mod second_factor;
mod sheet;
mod status;
mod storage;
mod vault;
mod verify;
mod watch;

use crate::args::{
    AccountCommand, Cli, Command, DebugCommand, DeviceCommand, DevicesCommand, PasswordCommand, PasswordFrom,
    RecoveryKeyCommand, SecondFactorCommand, StorageCommand, VaultCommand,
};
use crate::place::Place;
use crate::terminal::{Terminal, given_code};
use selkie_client::{Error, PasswordProof, Private};

pub(crate) async fn run(cli: &Cli, terminal: Terminal) -> anyhow::Result<()> {
    // These need no account, and so no place to look for it.
    match &cli.command {
        Command::Verify(args) => return verify::run(terminal, args),
        Command::Completion(args) => return completion::run(terminal, args),
        _ => {}
    }
    let place = Place::of(cli)?;
    match &cli.command {
        Command::SignUp(args) => doors::sign_up(&place, terminal, args).await,
        Command::SignIn(args) if args.link.is_some() || args.link_file.is_some() => {
            link::join(&place, terminal, args).await
        }
        Command::SignIn(args) => doors::sign_in(&place, terminal, args).await,
        Command::Recover(args) => doors::recover(&place, terminal, args).await,
        Command::SignOut(args) => doors::sign_out(&place, terminal, args).await,
        Command::Forget(args) => doors::forget(&place, terminal, args).await,
        Command::Device(args) => match &args.command {
            DeviceCommand::Link(args) => link::invite(&place, terminal, args).await,
        },
        Command::Devices(args) => match &args.command {
            None => devices::list(&place, terminal).await,
            Some(DevicesCommand::Revoke(args)) => devices::revoke(&place, terminal, args).await,
        },
        Command::Password(args) => match &args.command {
            PasswordCommand::Change(args) => password::change(&place, terminal, args).await,
        },
        Command::RecoveryKey(args) => match &args.command {
            RecoveryKeyCommand::Rotate(args) => sheet::rotate(&place, terminal, args).await,
            RecoveryKeyCommand::Confirm(args) => sheet::confirm(&place, terminal, args).await,
        },
        Command::SecondFactor(args) => match &args.command {
            SecondFactorCommand::Enable(args) => second_factor::enable(&place, terminal, args).await,
            SecondFactorCommand::Confirm(args) => second_factor::confirm(&place, terminal, args).await,
            SecondFactorCommand::Disable(args) => second_factor::disable(&place, terminal, args).await,
        },
        Command::Vault(args) => match &args.command {
            VaultCommand::Create(args) => vault::create(&place, terminal, args).await,
            VaultCommand::List => vault::list(&place, terminal).await,
            VaultCommand::Status(args) => vault::status(&place, terminal, args).await,
            VaultCommand::Log(args) => vault::log(&place, terminal, args).await,
            VaultCommand::Evidence(args) => vault::evidence(&place, terminal, args).await,
            VaultCommand::Verify(args) => vault::verify(&place, terminal, args).await,
            VaultCommand::Checkpoint(args) => vault::checkpoint(&place, terminal, args).await,
            VaultCommand::Members(args) => vault::members(&place, terminal, args).await,
            VaultCommand::Add(args) => vault::add(&place, terminal, args).await,
            VaultCommand::Role(args) => vault::set_role(&place, terminal, args).await,
            VaultCommand::Remove(args) => vault::remove(&place, terminal, args).await,
            VaultCommand::Rename(args) => vault::rename(&place, terminal, args).await,
            VaultCommand::Rotate(args) => vault::rotate(&place, terminal, args).await,
            VaultCommand::Drop(args) => storage::leave_out(&place, terminal, args).await,
            VaultCommand::Fetch(args) => storage::fetch(&place, terminal, args).await,
            VaultCommand::LeaveNew(args) => storage::leave_new(&place, terminal, args).await,
            VaultCommand::Reset(args) => vault::reset(&place, terminal, args).await,
            VaultCommand::AcceptReset(args) => vault::accept_reset(&place, terminal, args).await,
        },
        Command::Verify(args) => verify::run(terminal, args),
        Command::Completion(args) => completion::run(terminal, args),
        Command::Status(args) => status::run(&place, terminal, args).await,
        Command::Compare => status::compare(&place, terminal).await,
        Command::Storage(args) => match &args.command {
            None | Some(StorageCommand::Usage) => storage::usage(&place, terminal).await,
            Some(StorageCommand::Prune(args)) => storage::prune(&place, terminal, args).await,
            Some(StorageCommand::LetGo(args)) => storage::let_go(&place, terminal, args).await,
            Some(StorageCommand::Check) => storage::check(&place, terminal).await,
            Some(StorageCommand::Repair) => storage::repair(&place, terminal).await,
        },
        Command::Watch(args) => watch::run(&place, terminal, args).await,
        Command::Sync(args) => vault::sync(&place, terminal, args).await,
        Command::Export(args) => archive::export(&place, terminal, args).await,
        Command::Import(args) => archive::import(&place, terminal, args).await,
        Command::MoveTo(args) => moving::move_to(&place, terminal, args).await,
        Command::Debug(args) => match &args.command {
            DebugCommand::Push(args) => vault::travel(&place, terminal, args, true).await,
            DebugCommand::Pull(args) => vault::travel(&place, terminal, args, false).await,
        },
        Command::Put(args) => records::put(&place, terminal, args).await,
        Command::Get(args) => records::get(&place, terminal, args).await,
        Command::Ls(args) => records::list(&place, terminal, args).await,
        Command::Query(args) => query::query(&place, terminal, args).await,
        Command::Search(args) => query::search(&place, terminal, args).await,
        Command::Restore(args) => query::restore(&place, terminal, args).await,
        Command::Conflicts(args) => query::conflicts(&place, terminal, args).await,
        Command::Resolve(args) => query::resolve(&place, terminal, args).await,
        Command::Rm(args) => records::remove(&place, terminal, args).await,
        Command::History(args) => records::history(&place, terminal, args).await,
        Command::Sessions => account::sessions(&place, terminal).await,
        Command::Audit(args) => account::audit(&place, terminal, args).await,
        Command::Whoami => account::whoami(&place, terminal).await,
        Command::Account(args) => match &args.command {
            AccountCommand::Show => account::show(&place, terminal).await,
            AccountCommand::Delete(args) => account::delete(&place, terminal, args).await,
            AccountCommand::Keep => account::keep(&place, terminal).await,
            AccountCommand::Unlock(args) => account::unlock(&place, terminal, args).await,
        },
    }
}

/// Runs what needs the password, and once more with a code if the account turns out to have a second factor and
/// somebody is there to type it.
async fn with_password<T>(
    terminal: Terminal,
    from: &PasswordFrom,
    prompt: &str,
    run: impl AsyncFn(PasswordProof) -> selkie_client::Result<T>,
) -> anyhow::Result<T> {
    let password = terminal.password(from, prompt)?;
    terminal.progress("Checking the password");
    with_code(terminal, from, async |code| run(proof(&password, code)).await).await
}

/// Runs with the code given, and asks for one while the server wants one.
async fn with_code<T>(
    terminal: Terminal,
    from: &PasswordFrom,
    run: impl AsyncFn(Option<&str>) -> selkie_client::Result<T>,
) -> anyhow::Result<T> {
    let mut code = given_code(from)?;
    loop {
        match run(code.as_deref()).await {
            Err(error @ Error::SecondFactorNeeded { .. }) if terminal.somebody_is_there() => {
                terminal.remark(&format!("{error}."));
                code = Some(terminal.line("Code: ")?);
            }
            answer => return Ok(answer?),
        }
    }
}

fn proof(password: &Private, code: Option<&str>) -> PasswordProof {
    let proof = PasswordProof::new(password.as_str());
    match code {
        Some(code) => proof.with_code(code),
        None => proof,
    }
}
