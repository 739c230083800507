/* The one copy of the tables. */
#define DEFINE_TABLES
#include "board_tables.h"
