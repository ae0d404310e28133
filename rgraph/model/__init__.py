"""What people hold: functions, variables, and what they are made of."""
