"""What people look at: tables, plans in words, a debugger."""
