//! The tables, as Diesel knows them.
//!
//! Owns the names and types of columns, the same for both databases: times are milliseconds in big integers, ids and
//! sealed things are bytes, enumerations small integers. Knows nothing of constraints and policies, which are in
//! `migrations/`.

diesel::table! {
    server_meta (id) {
        id -> SmallInt,
        incarnation -> Binary,
        master_key_fingerprint -> Binary,
        created_at -> BigInt,
        restored_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    plans (plan) {
        plan -> Text,
        max_accounts -> Nullable<BigInt>,
        max_devices -> Nullable<BigInt>,
        max_bytes -> Nullable<BigInt>,
        max_vaults -> Nullable<BigInt>,
        history_days -> Nullable<BigInt>,
        limit_factor -> Integer,
    }
}

diesel::table! {
    opaque_setup (id) {
        id -> Integer,
        sealed -> Binary,
        created_at -> BigInt,
    }
}

diesel::table! {
    signing_keys (id) {
        id -> Integer,
        sealed -> Binary,
        created_at -> BigInt,
    }
}

diesel::table! {
    tenants (tenant) {
        tenant -> BigInt,
        slug -> Text,
        name -> Text,
        plan -> Text,
        suspended -> Bool,
        created_at -> BigInt,
        accounts -> BigInt,
        last_account -> BigInt,
        last_invitation -> BigInt,
        last_vault -> Integer,
    }
}

diesel::table! {
    invitations (tenant, invitation) {
        tenant -> BigInt,
        invitation -> BigInt,
        code_hash -> Binary,
        role -> SmallInt,
        uses_left -> Integer,
        first_account -> Bool,
        created_at -> BigInt,
        expires_at -> BigInt,
        revoked_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    accounts (tenant, account) {
        tenant -> BigInt,
        account -> BigInt,
        uuid -> Binary,
        login_name -> Text,
        uid -> Nullable<Binary>,
        audit_subject -> Binary,
        role -> SmallInt,
        suspended -> Bool,
        created_at -> BigInt,
        delete_after -> Nullable<BigInt>,
        last_seen -> Nullable<BigInt>,
        log_length -> BigInt,
        last_factor -> BigInt,
    }
}

diesel::table! {
    credentials (tenant, account) {
        tenant -> BigInt,
        account -> BigInt,
        setup_id -> Integer,
        ksf_id -> SmallInt,
        record -> Binary,
        password_generation -> BigInt,
        recovery_generation -> Nullable<BigInt>,
        recovery_key -> Nullable<Binary>,
        version -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    login_state (tenant, login) {
        tenant -> BigInt,
        login -> Binary,
        account -> Nullable<BigInt>,
        purpose -> SmallInt,
        sealed -> Binary,
        expires_at -> BigInt,
        attempts -> SmallInt,
    }
}

diesel::table! {
    account_log (tenant, account, position) {
        tenant -> BigInt,
        account -> BigInt,
        position -> BigInt,
        entry -> Binary,
    }
}

diesel::table! {
    keybag (tenant, account) {
        tenant -> BigInt,
        account -> BigInt,
        sealed -> Binary,
        updated_at -> BigInt,
    }
}

diesel::table! {
    devices (tenant, account, device) {
        tenant -> BigInt,
        account -> BigInt,
        device -> Binary,
        public_key -> Binary,
        label -> Binary,
        added_at -> BigInt,
        last_seen -> Nullable<BigInt>,
        revoked_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    sessions (tenant, session) {
        tenant -> BigInt,
        session -> Binary,
        account -> BigInt,
        device -> Nullable<Binary>,
        scope -> SmallInt,
        app -> Nullable<Text>,
        refresh_seed -> Binary,
        refresh_generation -> BigInt,
        rotated_at -> BigInt,
        auth_time -> BigInt,
        created_at -> BigInt,
        idle_expires_at -> BigInt,
        expires_at -> BigInt,
        ended_at -> Nullable<BigInt>,
        over_at -> BigInt,
    }
}

diesel::table! {
    second_factors (tenant, account, factor) {
        tenant -> BigInt,
        account -> BigInt,
        factor -> BigInt,
        kind -> SmallInt,
        sealed -> Binary,
        confirmed -> Bool,
        last_step -> BigInt,
        created_at -> BigInt,
    }
}

diesel::table! {
    recovery_codes (tenant, account, code_hash) {
        tenant -> BigInt,
        account -> BigInt,
        code_hash -> Binary,
        used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    links (tenant, channel) {
        tenant -> BigInt,
        channel -> Binary,
        account -> BigInt,
        offer -> Binary,
        request -> Nullable<Binary>,
        answer -> Nullable<Binary>,
        device -> Nullable<Binary>,
        expires_at -> BigInt,
    }
}

diesel::table! {
    audit_log (tenant, number) {
        tenant -> BigInt,
        number -> BigInt,
        at -> BigInt,
        subject -> Nullable<Binary>,
        action -> Text,
        device -> Nullable<Binary>,
        detail -> Nullable<Text>,
        chain -> Binary,
    }
}

diesel::table! {
    audit_head (tenant) {
        tenant -> BigInt,
        number -> BigInt,
        chain -> Binary,
    }
}

diesel::table! {
    failures (tenant, account, kind, day) {
        tenant -> BigInt,
        account -> BigInt,
        kind -> SmallInt,
        day -> BigInt,
        times -> BigInt,
    }
}

diesel::table! {
    vaults (tenant, vault) {
        tenant -> BigInt,
        vault -> Integer,
        vid -> Binary,
        app -> Text,
        made_by -> Nullable<BigInt>,
        created_at -> BigInt,
        n -> BigInt,
        h -> Binary,
        bytes -> BigInt,
        checkpoint -> BigInt,
        prepared -> BigInt,
    }
}

diesel::table! {
    vault_upkeep (tenant, vault) {
        tenant -> BigInt,
        vault -> Integer,
        walked -> BigInt,
        kept_at -> Nullable<BigInt>,
        freed -> BigInt,
    }
}

diesel::table! {
    vault_states (tenant, vault) {
        tenant -> BigInt,
        vault -> Integer,
        n -> BigInt,
        state -> Binary,
    }
}

diesel::table! {
    vault_entries (tenant, vault, n) {
        tenant -> BigInt,
        vault -> Integer,
        n -> BigInt,
        kind -> SmallInt,
        dev_seq -> BigInt,
        received_at -> BigInt,
        h -> Binary,
        hash -> Binary,
        device -> Binary,
        frame -> Binary,
    }
}

diesel::table! {
    vault_changes (tenant, vault, record, place) {
        tenant -> BigInt,
        vault -> Integer,
        record -> Binary,
        place -> BigInt,
        change -> Binary,
        whole -> Bool,
        superseded_at -> Nullable<BigInt>,
        unheaded_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    vault_members (tenant, account, vault) {
        tenant -> BigInt,
        account -> BigInt,
        vault -> Integer,
        present -> Bool,
        removed_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    vault_wraps (tenant, vault, account, epoch, generation) {
        tenant -> BigInt,
        vault -> Integer,
        account -> BigInt,
        epoch -> BigInt,
        generation -> BigInt,
        sealed -> Binary,
    }
}

diesel::table! {
    vault_checkpoints (tenant, vault, n) {
        tenant -> BigInt,
        vault -> Integer,
        n -> BigInt,
        page_hashes -> Binary,
    }
}

diesel::table! {
    departed_logs (tenant, uid, position) {
        tenant -> BigInt,
        uid -> Binary,
        position -> BigInt,
        entry -> Binary,
    }
}

diesel::table! {
    departed_from (tenant, vault, uid) {
        tenant -> BigInt,
        vault -> Integer,
        uid -> Binary,
    }
}

diesel::allow_tables_to_appear_in_same_query!(
    plans,
    tenants,
    invitations,
    accounts,
    credentials,
    devices,
    sessions,
    second_factors,
    vaults,
    vault_upkeep,
    vault_states,
    vault_entries,
    vault_members,
    vault_wraps,
    vault_checkpoints,
    departed_logs,
    departed_from,
);
