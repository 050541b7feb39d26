"""Values and checks shared by all object stores."""
