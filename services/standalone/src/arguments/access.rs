//! Who may call: accounts, principals, their policies and access keys.

use std::path::PathBuf;

use clap::Subcommand;

/// What to do with accounts.
#[derive(Debug, Subcommand)]
pub enum Accounts {
    /// List the accounts that yours has registered.
    List,
    /// Register an account.
    Create {
        /// 12 digits.
        account: String,
        /// E-mail address of its root user.
        #[arg(long)]
        email: String,
        /// A name to show.
        #[arg(long, default_value = "", hide_default_value = true)]
        name: String,
    },
    /// Give an account that yours has registered its first administrator, and show the access key this once.
    Administrator {
        /// 12 digits.
        account: String,
    },
}

/// What to do with principals.
#[derive(Debug, Subcommand)]
pub enum Principals {
    /// List the principals of your account.
    List,
    /// Add a user or role.
    Create {
        /// `user/NAME` or `role/NAME`.
        name: String,
        /// Who may assume the role: a file with IAM JSON.
        #[arg(long, value_name = "FILE")]
        trust_policy: Option<PathBuf>,
    },
    /// Remove a principal with its keys and policies.
    Delete {
        /// The principal's ARN.
        principal: String,
    },
}

/// What to do with policies.
#[derive(Debug, Subcommand)]
pub enum Policies {
    /// List a principal's policies.
    List {
        /// The principal's ARN.
        principal: String,
    },
    /// Set a policy, replacing one of the same name.
    Put {
        /// The principal's ARN.
        principal: String,
        /// The policy's name.
        name: String,
        /// A file with IAM JSON, or the name of a managed policy such as `AmazonDetectiveFullAccess`.
        document: String,
    },
    /// Remove a policy.
    Delete {
        /// The principal's ARN.
        principal: String,
        /// The policy's name.
        name: String,
    },
}

// The fields are named `key`, as `access_key_id` is the name of the global option.
/// What to do with access keys.
#[derive(Debug, Subcommand)]
pub enum Keys {
    /// Make a key; its secret is shown this once.
    Create {
        /// The principal's ARN.
        principal: String,
    },
    /// List a principal's keys.
    List {
        /// The principal's ARN.
        principal: String,
    },
    /// Make a new key for the owner of an old one, and disable the old one. A principal has two keys at most.
    Rotate {
        /// The old key's id.
        #[arg(value_name = "ACCESS_KEY_ID")]
        key: String,
        /// The principal's ARN.
        #[arg(long)]
        principal: String,
    },
    /// Disable a key.
    Disable {
        /// The key's id.
        #[arg(value_name = "ACCESS_KEY_ID")]
        key: String,
    },
    /// Enable a key that was disabled.
    Enable {
        /// The key's id.
        #[arg(value_name = "ACCESS_KEY_ID")]
        key: String,
    },
    /// Remove a key.
    Delete {
        /// The key's id.
        #[arg(value_name = "ACCESS_KEY_ID")]
        key: String,
    },
}
