//! A connection to a judged target through an exit.
