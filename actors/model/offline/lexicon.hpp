// The English that the extractor knows: closed word lists, each with the question that it answers.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string_view>

namespace onboarding::model::offline {

inline bool is_one_of(std::string_view word, std::initializer_list<std::string_view> words) {
  return std::find(words.begin(), words.end(), word) != words.end();
}

bool is_role_noun(std::string_view lower);        // engineer, founder, cto …: the head of a job title
bool is_role_modifier(std::string_view lower);    // senior, head, vice …: may begin or join a job title
bool is_company_suffix(std::string_view lower);   // gmbh, inc, ltd …
bool is_people_noun(std::string_view lower);      // people, employees, of us …
bool is_number_word(std::string_view lower);      // forty, dozen, hundred …
bool is_approximation(std::string_view lower);    // about, roughly …
bool is_function_word(std::string_view lower);    // never part of a name or a company on its own
bool is_state_word(std::string_view lower);       // follows "I'm" without being a name: fine, sure, working …
bool is_filler(std::string_view lower);           // hi, well, sure, thanks …: says nothing
bool is_correction_word(std::string_view lower);  // sorry, actually, oops …
bool is_yes(std::string_view lower);
bool is_no(std::string_view lower);
bool is_month(std::string_view lower);
bool is_other_unit(std::string_view lower);      // after a number: years, euros, percent …: not people
bool is_place(std::string_view lower);           // a country or a well-known city: not a company
bool is_department(std::string_view lower);      // accounting, sales …: within a company, never one
bool is_aim_word(std::string_view lower);        // growth, hiring …: may alone be somebody's goal
bool is_given_name_too(std::string_view lower);  // Dean, Baker, Page …: a job title and a name

}  // namespace onboarding::model::offline
