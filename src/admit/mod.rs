//! Who may enter: users, secrets, limits.
