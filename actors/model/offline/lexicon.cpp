#include "actors/model/offline/lexicon.hpp"

#include <algorithm>
#include <string>
#include <unordered_set>

namespace onboarding::model::offline {
namespace {

struct Hash {
  using is_transparent = void;
  std::size_t operator()(std::string_view s) const { return std::hash<std::string_view>{}(s); }
};
using Words = std::unordered_set<std::string, Hash, std::equal_to<>>;

/// A list written as one text; `_` stands for a space within an entry.
Words split(std::string_view list) {
  Words words;
  for (std::size_t begin = 0; begin < list.size();) {
    const auto end = std::min(list.find(' ', begin), list.size());
    std::string word(list.substr(begin, end - begin));
    std::replace(word.begin(), word.end(), '_', ' ');
    words.insert(std::move(word));
    begin = end + 1;
  }
  return words;
}

}  // namespace

bool is_role_noun(std::string_view w) {
  // hygienist, radiographer, beekeeper, locksmith: what such words name is nearly always a trade
  static const Words no_trade = split("assist exist consist insist resist persist enlist checklist wishlist shortlist");
  for (const std::string_view ending : {"ist", "ographer", "ologist", "keeper", "smith"})
    if (w.size() > ending.size() + 3 && w.ends_with(ending) && w != "smith" && !no_trade.contains(w)) return true;
  static const Words words = split(
      "engineer engineers developer dev programmer architect designer manager director founder co-founder cofounder owner "
      "co-owner ceo cto cfo coo cmo cio cpo ciso cro vp svp evp president vice-president chairman chairwoman chair partner "
      "principal analyst scientist researcher consultant advisor adviser accountant bookkeeper auditor controller "
      "administrator admin sysadmin assistant secretary receptionist coordinator specialist executive officer representative "
      "rep agent recruiter marketer salesperson salesman saleswoman writer copywriter editor journalist translator "
      "photographer producer artist animator musician teacher lecturer professor tutor instructor trainer coach student "
      "intern trainee apprentice graduate phd postdoc doctor physician surgeon nurse dentist pharmacist therapist "
      "psychologist veterinarian vet paramedic midwife lawyer attorney solicitor barrister paralegal judge notary banker "
      "trader broker investor underwriter actuary economist statistician mathematician physicist chemist biologist geologist "
      "technician mechanic electrician plumber carpenter builder contractor foreman surveyor planner buyer merchandiser "
      "retailer shopkeeper chef cook baker barista waiter waitress bartender hotelier driver pilot captain sailor soldier "
      "policeman firefighter farmer gardener florist hairdresser stylist librarian archivist curator freelancer entrepreneur "
      "contributor maintainer tester qa sre devops dba pm po lead leader head chief boss supervisor superintendent dispatcher "
      "operator worker clerk cashier strategist evangelist advocate liaison ambassador scrum-master master generalist buddy "
      "secretary-general treasurer pastor priest minister mayor councillor diplomat director-general dean headteacher "
      "headmaster headmistress provost fellow associate optician optometrist radiologist cardiologist neurologist "
      "physiotherapist nutritionist dietitian logistician illustrator videographer filmmaker actor actress dancer singer "
      "composer author poet blogger influencer streamer youtuber podcaster handyman janitor caretaker cleaner housekeeper "
      "nanny babysitter retiree pensioner homemaker volunteer fundraiser activist organizer organiser realtor landlord "
      "estimator inspector detective investigator guard courier tailor jeweller jeweler butcher fisherman brewer winemaker "
      "sommelier ops hr swe ux copy-editor stagehand machinist welder toolmaker tradesman roofer painter decorator geographer "
      "historian philosopher linguist sociologist anthropologist archaeologist roaster brewer tailor jeweller potter bricklayer "
      "joiner painter roofer welder machinist fitter lecturer steward stewardess groomer trucker courier foreperson superuser");
  return words.contains(w);
}

bool is_role_modifier(std::string_view w) {
  static const Words words = split(
      "senior junior sr jr lead head chief principal staff vice deputy assistant associate executive managing general "
      "regional global national interim acting founding freelance independent self-employed part-time full-time software "
      "hardware product project program programme marketing sales operations office data frontend front-end backend back-end "
      "full-stack fullstack web mobile ios android cloud security machine learning account customer community content people "
      "human talent finance financial legal business technical tech creative art social media growth brand supply chain "
      "quality research medical dental primary secondary school high-school university graduate certified chartered "
      "professional digital solution solutions systems system network support team department store shop branch site plant "
      "production process industrial mechanical electrical civil chemical structural embedded game graphic ui ux user "
      "experience interaction service success procurement logistics warehouse events event engineering co-founding small real "
      "estate private public relations policy travel tax investment risk compliance scrum");
  return words.contains(w);
}

bool is_company_suffix(std::string_view w) {
  static const Words words = split(
      "gmbh ag inc inc. ltd ltd. llc llp plc corp corp. corporation co co. company kg se sa s.a. sas sarl s.r.l. srl spa "
      "s.p.a. bv b.v. nv n.v. oy ab as a/s aps pty limited group holding holdings labs studio studios technologies technology "
      "solutions systems software industries partners ventures consulting bank university foundation institute hospital "
      "school college agency ug e.v. kk k.k.");
  return words.contains(w);
}

bool is_people_noun(std::string_view w) {
  static const Words words = split(
      "people persons person employees employee staff members member folks engineers developers designers heads headcount "
      "colleagues coworkers co-workers teammates souls humans workers guys fte ftes full-timers seats users strong devs "
      "teachers nurses specialists part-timers ppl full-timer part-timer contractors volunteers interns apprentices mechanics "
      "drivers cooks");
  return words.contains(w);
}

bool is_number_word(std::string_view w) {
  static const Words words = split(
      "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
      "eighteen nineteen twenty thirty forty fourty fifty sixty seventy eighty ninety hundred thousand million dozen couple");
  if (words.contains(w)) return true;
  const auto hyphen = w.find('-');  // twenty-five
  return hyphen != std::string_view::npos && words.contains(w.substr(0, hyphen)) && words.contains(w.substr(hyphen + 1));
}

bool is_approximation(std::string_view w) {
  static const Words words{"about",  "around", "roughly", "approximately", "approx", "approx.", "some",  "nearly",
                           "almost", "circa",  "ca",      "ca.",           "maybe",  "over",    "under", "exactly",
                           "~",      "like",   "say"};
  return words.contains(w);
}

bool is_function_word(std::string_view w) {
  static const Words words = split(
      "i me my mine we us our ours you your he him his she her it its they them their this that these those a an the and or "
      "but so if then than as at by for from in into of on to with without about around is am are was were be been being do "
      "does did have has had will would can could should may might must shall not no yes there here what who whom which when "
      "where why how i'm im i've ive i'd i'll we're we've we'd it's that's there's name's don't dont didn't isn't aren't "
      "can't cant won't just only also too very really please because since while currently now today working work called "
      "named looking hoping trying want need like lets let's who's based my email e-mail mail name company team role job goal "
      "you're what's plus sorry actually oops hi hello hey thanks thank surname firstname lastname");
  return words.contains(w);
}

bool is_state_word(std::string_view w) {
  static const Words words = split(
      "fine good great ok okay well sure ready done here new happy glad excited interested curious confused lost stuck unsure "
      "sorry afraid busy tired back alone out in on off from at with not also just only still already currently now really "
      "very so too quite pretty kind sort the a an one all looking trying hoping working running leading managing building "
      "doing going using thinking planning writing asking talking calling joining starting studying teaching based "
      "responsible employed self-employed unemployed retired freelance freelancing called named being getting having making "
      "coming living heading into about around keen eager bored annoyed angry frustrated sceptical skeptical worried "
      "concerned struggling testing signing wondering my your our of to for and like more actually basically mostly mainly "
      "usually probably maybe never always no yes it what that this there responsable good, female male married single german "
      "french english american spanish italian serious kidding joking old young years sick late early free available open "
      "done, first second next last later help stop cancel wrong right brb gtg afk speaking "
      "complicated difficult hard easy secret private confidential personal anonymous unknown unclear undecided obvious "
      "irrelevant impossible start begin go continue proceed restart reset exit quit skip menu undo repeat test");
  return words.contains(w);
}

bool is_filler(std::string_view w) {
  static const Words words = split(
      "hi hello hey hiya howdy yo greetings ok okay sure well so um uh hmm er erm ah oh yes yeah yep yup right alright thanks "
      "thank you please there everyone all great cool perfect fine good nice of course gladly certainly absolutely morning "
      "afternoon evening day again lol haha honestly basically like k thing tbh btw");
  return words.contains(w);
}

bool is_correction_word(std::string_view w) {
  static const Words words{"sorry",      "actually", "oops",    "whoops", "correction", "wait", "typo",
                           "misspelled", "mistyped", "mistake", "wrong",  "apologies",  "oh",   "no",
                           "nope",       "scratch",  "rather",  "meant",  "argh",       "ugh",  "correct",
                           "change",     "update",   "fix",     "edit"};
  return words.contains(w);
}

bool is_yes(std::string_view w) {
  static const Words words{"yes",        "yeah",       "yep",     "yup",   "sure",
                           "absolutely", "definitely", "correct", "right", "true",
                           "indeed",     "ok",         "okay",    "y",     "certainly yea aye gladly"};
  return words.contains(w);
}

bool is_no(std::string_view w) {
  static const Words words{"no", "nope", "nah", "never", "false", "n", "not nay"};
  return words.contains(w);
}

bool is_month(std::string_view w) {
  static const Words words{"january",   "february", "march",    "april",    "may",  "june", "july", "august",
                           "september", "october",  "november", "december", "jan",  "feb",  "mar",  "apr",
                           "jun",       "jul",      "aug",      "sep",      "sept", "oct",  "nov",  "dec"};
  return words.contains(w);
}

bool is_other_unit(std::string_view w) {
  static const Words words = split(
      "years year yrs months month weeks week days day hours hour hrs minutes minute min mins seconds pm am o'clock percent % "
      "euros euro dollars dollar pounds usd eur gbp k m million billion km miles meters times offices countries customers "
      "clients products projects stores shops locations cities tools apps tickets orders kids children dogs cats th st nd rd "
      "floor th_floor teams departments companies servers requests calls emails meetings invoices patients students pages "
      "questions things steps square sqm metre metres meter feet sites branches");
  return words.contains(w);
}

bool is_department(std::string_view w) {
  static const Words words = split(
      "accounting accounts sales marketing finance hr legal it engineering support operations procurement payroll logistics "
      "purchasing production research compliance security administration recruiting");
  return words.contains(w);
}

bool is_aim_word(std::string_view w) {
  for (const unsigned char c : w)
    if (c >= 0x80) return true;  // no English word: who knows
  if (is_role_modifier(w) || is_department(w) || is_other_unit(w) || is_people_noun(w)) return true;
  for (const std::string_view ending : {"ing", "ion", "ment", "ity", "ics", "ance", "ence", "ency", "ness", "ship", "ism"})
    if (w.size() > ending.size() + 2 && w.ends_with(ending)) return true;
  static const Words words = split(
      "profit profits revenue leads speed money time order fun scale traffic churn costs savings insights reports reporting crm "
      "seo invoices crypto reach sleep peace simplicity knowledge overview workflows shifts stock rotas bookings backups");
  return words.contains(w);
}

bool is_given_name_too(std::string_view w) {
  static const Words words = split(
      "dean baker cook chase art page judge mark will grant major porter cooper marshal bishop guy booker prince pilot scout "
      "shepherd taylor carter mason hunter miller fisher potter archer bailey butcher gardener gardner chef master buddy head");
  return words.contains(w);
}

bool is_place(std::string_view lower) {
  static const Words words = split(
      "berlin munich hamburg cologne frankfurt vienna zurich zürich geneva basel bern paris lyon marseille london manchester "
      "leeds bristol edinburgh glasgow dublin cork madrid barcelona valencia seville lisbon porto rome milan turin naples "
      "amsterdam rotterdam utrecht brussels antwerp ghent copenhagen aarhus stockholm gothenburg malmö oslo bergen helsinki "
      "tampere tallinn riga vilnius warsaw krakow kraków prague brno bratislava budapest bucharest sofia athens istanbul "
      "ankara kyiv kiev lviv belgrade zagreb ljubljana new_york nyc boston chicago austin dallas houston denver seattle "
      "portland san_francisco los_angeles la sf san_diego miami atlanta toronto montreal vancouver ottawa mexico_city bogotá "
      "bogota lima santiago buenos_aires são_paulo sao_paulo rio rio_de_janeiro tokyo osaka kyoto seoul beijing shanghai "
      "shenzhen hong_kong taipei singapore kuala_lumpur jakarta manila bangkok hanoi delhi new_delhi mumbai bangalore "
      "bengaluru chennai hyderabad pune kolkata karachi lahore dhaka colombo dubai abu_dhabi doha riyadh tel_aviv jerusalem "
      "cairo lagos nairobi accra cape_town johannesburg sydney melbourne brisbane perth auckland wellington germany austria "
      "switzerland france england scotland wales ireland uk the_uk united_kingdom the_netherlands netherlands holland belgium "
      "luxembourg spain portugal italy greece turkey denmark sweden norway finland iceland estonia latvia lithuania poland "
      "czechia slovakia hungary romania bulgaria ukraine russia serbia croatia slovenia usa the_us us the_usa united_states "
      "the_united_states america canada mexico brazil argentina chile peru colombia japan china korea south_korea india "
      "pakistan bangladesh indonesia malaysia thailand vietnam philippines australia new_zealand egypt nigeria kenya ghana "
      "south_africa morocco israel europe asia africa california texas bavaria home monday tuesday wednesday thursday friday "
      "saturday sunday january february march april may june july august september october november december");
  return words.contains(lower);
}

}  // namespace onboarding::model::offline
